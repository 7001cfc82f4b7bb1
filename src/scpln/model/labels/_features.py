"""What labels are predicted from: an embedding in obsm, or logarithms of counts, on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.data import Cells

    Floats = NDArray[np.float64]


def read_embedding(adata: AnnData, use_rep: str, positions: NDArray[np.intp] | None, n: int | None) -> Floats:
    """An entry of ``obsm`` (n × d), every number finite, and with as many dimensions as the model has.

    Raises
    ------
    ValueError
        There is none of this name, or it is not such a table.
    """
    if use_rep not in adata.obsm:
        msg = f"adata.obsm has no {use_rep!r} (use_rep); it has {sorted(adata.obsm)}. Compute it for these cells, too, or train on one that all have."
        raise ValueError(msg)
    values: Any = adata.obsm[use_rep]
    table = np.asarray(values.toarray() if sp.issparse(values) else values)
    if table.ndim != 2 or table.dtype.kind not in "biuf":
        msg = f"adata.obsm[{use_rep!r}] (use_rep) is no table of numbers, cells by dimensions. Choose another of {sorted(adata.obsm)}."
        raise ValueError(msg)
    table = table.astype(np.float64)[slice(None) if positions is None else positions]
    if n is not None and table.shape[1] != n:
        msg = (
            f"adata.obsm[{use_rep!r}] (use_rep) has {table.shape[1]} dimensions, and the model was trained on {n}. Pass cells of the same embedding, "
            "mapped by the model that made it."
        )
        raise ValueError(msg)
    wrong = np.flatnonzero(~np.isfinite(table).all(1))
    if len(wrong):
        name = adata.obs_names[wrong[0] if positions is None else positions[wrong[0]]]
        msg = f"adata.obsm[{use_rep!r}] (use_rep) has values that are missing or infinite in {len(wrong):,} cells, such as {name!r}. Leave these cells out, or compute it anew."
        raise ValueError(msg)
    return table


def log_values(cells: Cells, *, is_count_data: bool) -> Floats:
    """log(1 + y / size factor) of counts, or the values themselves (n × p)."""
    data = cells.data
    rows = data.counts[0 : data.n_cells]
    values = np.asarray(rows.toarray() if sp.issparse(rows) else rows, dtype=np.float64)
    return np.log1p(values * np.exp(-data.offsets)[:, None]) if is_count_data else values


def scaling_of(values: Floats) -> tuple[Floats, float]:
    """Means (d), and the largest standard deviation of the features, which is 1 then: what varies most says most, as of principal components."""
    largest = float(values.std(0).max(initial=0.0))
    return values.mean(0), largest if largest > 0 else 1.0


def design_of(values: Floats, centre: Floats, scale: float) -> Floats:
    """A column of ones, and the scaled features."""
    return np.column_stack([np.ones(len(values)), (values - centre) / scale])
