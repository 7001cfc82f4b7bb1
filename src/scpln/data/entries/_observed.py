"""Which entries of the counts were observed, and the counts without the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scpln.core import canonical

from ._matrix import place_of, read_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray


def read_mask(
    adata: AnnData, key: str, genes: Sequence[str], cells: NDArray[np.intp] | None = None
) -> NDArray[np.bool_]:
    """Whether entries were observed, of all or some cells; an error for a value that is neither, and a cell without any."""
    values = read_matrix(adata, key, "mask_key", genes, cells)
    names = adata.obs_names if cells is None else adata.obs_names[cells]
    if values.dtype.kind == "f" and np.isnan(values).any():
        cell, gene = np.argwhere(np.isnan(values))[0]
        msg = (
            f"{place_of(adata, key, 'mask_key')} (mask_key) has missing values, first in cell {names[cell]!r}, gene "
            f"{genes[gene]!r}. It says whether an entry was observed: a missing count was not."
        )
        raise ValueError(msg)
    observed = values != 0
    nothing = np.flatnonzero(~observed.any(1))
    if len(nothing):
        msg = (
            f"{place_of(adata, key, 'mask_key')} (mask_key) says of {len(nothing):,} of {len(names):,} cells that nothing of them was "
            f"observed, first {names[nothing[0]]!r}. Leave these out."
        )
        raise ValueError(msg)
    return observed


def observed_rows(rows: Any, observed: NDArray[np.bool_]) -> Any:
    """The same rows with zeros where nothing was observed, whatever stands there; from disk they are as they are read.

    Examples
    --------
    >>> observed_rows(np.array([[np.nan, 2.0]]), np.array([[False, True]]))
    array([[0., 2.]])
    """
    if isinstance(rows, np.ndarray):
        return np.where(observed, rows, rows.dtype.type(0))
    if sp.issparse(rows):
        entries = rows.tocoo()
        kept = observed[entries.row, entries.col]
        inside = entries.data[kept], (entries.row[kept], entries.col[kept])
        return canonical(sp.csr_matrix(inside, shape=rows.shape))
    return ObservedRows(rows, observed)


@dataclass(frozen=True)
class ObservedRows:
    """Rows on disk, without what was not observed."""

    rows: Any
    observed: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        n, p = self.rows.shape
        return int(n), int(p)

    def __getitem__(self, cells: Any) -> Any:
        """Rows of a slice, or of increasing positions."""
        return observed_rows(self.rows[cells], self.observed[cells])
