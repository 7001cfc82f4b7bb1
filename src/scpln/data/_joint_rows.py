"""Rows of several matrices side by side, of which each may lack some of the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ._rows import take_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class JointRows:
    """Rows of the cells that are in one or more of several matrices; where a matrix lacks a cell, its row is empty.

    Nothing is read before it is asked for, so that matrices may be on disk.

    Parameters
    ----------
    parts
        Matrices (n_m × p_m), as `as_rows` gives them; their rows are the cells that have them, in their order.
    present
        For each matrix, a number for every cell (n,) that is negative where the matrix lacks it.

    Examples
    --------
    >>> rna, protein = np.array([[1, 2], [3, 4]]), np.array([[5], [6]])
    >>> rows = JointRows([rna, protein], [np.array([0, 1, -1]), np.array([-1, 0, 1])])
    >>> rows.shape
    (3, 3)
    >>> rows[0:3].toarray()
    array([[1, 2, 0],
           [3, 4, 5],
           [0, 0, 6]])
    """

    def __init__(self, parts: Sequence[Any], present: Sequence[NDArray[np.intp]]) -> None:
        self.parts = list(parts)
        self._row_of = [np.where(own >= 0, np.cumsum(own >= 0) - 1, -1) for own in present]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, and columns of all matrices."""
        return len(self._row_of[0]), sum(int(part.shape[1]) for part in self.parts)

    @property
    def in_memory(self) -> bool:
        """Whether no matrix is on disk."""
        return all(isinstance(part, np.ndarray) or sp.issparse(part) for part in self.parts)

    def __getitem__(self, cells: Any) -> sp.csr_matrix:
        """Rows of a slice or of positions of cells."""
        blocks = [_with_empty_rows(part, own[cells]) for part, own in zip(self.parts, self._row_of, strict=True)]
        return sp.csr_matrix(sp.hstack(blocks, format="csr"))


def _with_empty_rows(part: Any, rows: NDArray[np.intp]) -> sp.csr_matrix:
    """The given rows of a matrix, empty where they are negative."""
    present = rows >= 0
    chosen = rows[present]
    if len(chosen) and (np.diff(chosen) == 1).all():
        taken = sp.csr_matrix(part[int(chosen[0]) : int(chosen[-1]) + 1])
    else:
        taken = sp.csr_matrix(take_cells(part, chosen))
    lengths = np.zeros(len(rows), dtype=taken.indptr.dtype)
    lengths[present] = np.diff(taken.indptr)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_matrix((taken.data, taken.indices, indptr), shape=(len(rows), int(part.shape[1])))
