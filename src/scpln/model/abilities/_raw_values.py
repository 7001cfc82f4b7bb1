"""Counts of several modalities, or not all observed, whose statistics are over the cells that have them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class RawValues:
    """Counts, with as much of a matrix's arithmetic as scvi-tools' comparison uses.

    Parameters
    ----------
    values
        Counts (n × p).
    present
        Which cells have which modality, (n, G).
    groups
        Code of each gene's modality, (p,).
    observed
        Which entries were observed, (n, p); None if all were that a cell's modalities have.

    Examples
    --------
    >>> counts = sp.csr_matrix([[1, 3, 5], [2, 2, 0]])
    >>> raw = RawValues(counts, np.array([[True, True], [True, False]]), np.array([0, 0, 1]))
    >>> raw.mean(axis=0), (raw != 0).mean(axis=0), (raw * 100).mean(axis=0)
    (array([1.5, 2.5, 5. ]), array([1., 1., 1.]), array([ 37.5,  62.5, 100. ]))
    """

    values: sp.csr_matrix
    present: NDArray[np.bool_]
    groups: NDArray[np.intp]
    observed: NDArray[np.bool_] | None = None

    def __getitem__(self, cells: Any) -> Self:
        observed = None if self.observed is None else self.observed[cells]
        return replace(self, values=self.values[cells], present=self.present[cells], observed=observed)

    def __ne__(self, value: object) -> Self:  # type: ignore[override]
        return replace(self, values=self.values != value)

    def __mul__(self, total: ArrayLike) -> Self:
        """Scaled in each cell, so that the genes of each modality add up to this total, unless all are 0."""
        values = self.values.tocoo()
        totals = np.zeros(self.present.shape)
        np.add.at(totals, (values.row, self.groups[values.col]), values.data)
        factors = np.asarray(total) / np.where(totals == 0, 1, totals)
        scaled = values.data * factors[values.row, self.groups[values.col]]
        return replace(self, values=sp.csr_matrix((scaled, (values.row, values.col)), shape=values.shape))

    def mean(self, axis: int, dtype: None = None, out: None = None) -> NDArray[np.float64]:
        """Mean of each gene over the cells where it was observed (`axis` 0); NaN if it was in none. As NumPy calls it."""
        n_cells = self.present.sum(axis)[self.groups]
        if self.observed is not None:
            n_cells = (self.observed & self.present[:, self.groups]).sum(axis)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.values.sum(axis), dtype=float).ravel() / n_cells
