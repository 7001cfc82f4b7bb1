"""A matrix of cells × genes beside the counts: a layer, or an entry of ``obsm``, in the model's gene order."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scpln.data._rows import as_rows, gene_columns, location, select_genes, take_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray


def place_of(adata: AnnData, key: str, argument: str) -> str:
    """Name of the matrix as a user would write it; a layer comes first. An error that lists what there is."""
    if key in adata.layers:
        return location(key)
    if key in adata.obsm:
        return f"adata.obsm[{key!r}]"
    known = [*adata.layers, *adata.obsm]
    near = get_close_matches(key, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    msg = (
        f"Neither adata.layers nor adata.obsm has {key!r} ({argument}).{hint} They have {list(adata.layers)} and "
        f"{list(adata.obsm)}."
    )
    raise ValueError(msg)


def read_matrix(
    adata: AnnData, key: str, argument: str, genes: Sequence[str], cells: NDArray[np.intp] | None = None
) -> NDArray[Any]:
    """Values of all or some cells, dense, for the given genes.

    Columns of a layer, and of an array in ``obsm``, are those of ``adata.var_names``; those of a data frame have names.

    Examples
    --------
    >>> from anndata import AnnData
    >>> adata = AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["a", "b"]))
    >>> adata.obsm["depth"] = pd.DataFrame({"b": [3.0, 4.0], "a": [1.0, 2.0]}, index=adata.obs_names)
    >>> read_matrix(adata, "depth", "offset_key", ["a", "b"])
    array([[1., 3.],
           [2., 4.]])
    """
    where = place_of(adata, key, argument)
    matrix = adata.layers[key] if key in adata.layers else adata.obsm[key]
    names = adata.var_names
    if isinstance(matrix, pd.DataFrame):
        _check_names(matrix.columns.astype(str), genes, where, argument)
        names, matrix = (
            pd.Index(genes),
            _numbers(matrix.set_axis(matrix.columns.astype(str), axis=1)[list(genes)], where),
        )
    elif matrix.shape[1:] != (adata.n_vars,):
        msg = (
            f"{where} ({argument}) has shape {matrix.shape}, but adata has {adata.n_vars:,} genes. Put a column for each gene "
            "there: as a layer, or as a data frame with the names of genes, which selecting genes leaves right."
        )
        raise ValueError(msg)
    rows = take_cells(as_rows(matrix, where), cells)
    rows = select_genes(rows, gene_columns(names, genes))
    if not isinstance(rows, np.ndarray):
        rows = (rows if sp.issparse(rows) else sp.csr_matrix(rows[0 : rows.shape[0]])).toarray()
    return rows


def _check_names(columns: pd.Index, genes: Sequence[str], where: str, argument: str) -> None:
    """Refuse a data frame that does not have each gene once."""
    repeated = columns[columns.duplicated()]
    missing = pd.Index(genes).difference(columns, sort=False)
    if len(repeated) or len(missing):
        what = f"{repeated[0]!r} more than once" if len(repeated) else f"no {missing[0]!r} ({len(missing):,} lack)"
        msg = (
            f"{where} ({argument}) must have a column for each of the {len(genes):,} genes, and it has {what}. Name the "
            "columns as adata.var_names does."
        )
        raise ValueError(msg)


def _numbers(frame: pd.DataFrame, where: str) -> NDArray[Any]:
    """Values of a data frame, which must be numbers or truth values; NaN where they are missing."""
    wrong = [name for name, dtype in frame.dtypes.items() if dtype.kind not in "buif"]
    if wrong:
        msg = f"{where} has a column {wrong[0]!r} of {frame.dtypes[wrong[0]]}, and must have numbers or truth values."
        raise TypeError(msg)
    return frame.to_numpy(np.float64, na_value=np.nan)
