"""Sums of cells of the same sample on the same side of a comparison: what tests between samples are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """Units that cells are summed over.

    Parameters
    ----------
    membership
        Indicators of each unit's cells (units × n).
    sample, side
        Code of each unit's sample, and whether it is on the first side, (units,).
    n_cells
        Cells of each unit.
    """

    membership: sp.csr_matrix
    sample: NDArray[np.int64]
    side: NDArray[np.bool_]
    n_cells: NDArray[np.int64]

    @classmethod
    def of(cls, samples: NDArray[np.int64], side: NDArray[np.bool_], min_cells: int) -> Samples:
        """Units of cells by the code of their sample (−1 for none) and side, but those of fewer than `min_cells` cells.

        Examples
        --------
        >>> units = Samples.of(np.array([0, 0, 1, 0]), np.array([True, True, True, False]), 1)
        >>> units.sample, units.side, units.n_cells
        (array([0, 0, 1]), array([False,  True,  True]), array([1, 2, 1]))
        """
        codes = np.where(samples < 0, -1, 2 * samples + side)
        kinds, sizes = np.unique(codes[codes >= 0], return_counts=True)
        kept = kinds[sizes >= min_cells]
        cells = np.flatnonzero(np.isin(codes, kept))
        units = np.searchsorted(kept, codes[cells])
        membership = sp.csr_matrix((np.ones(len(cells)), (units, cells)), shape=(len(kept), len(codes)))
        return cls(membership, kept // 2, kept % 2 == 1, sizes[sizes >= min_cells])

    def sums(self, counts: Any) -> sp.csr_matrix:
        """Sums of counts (units × p)."""
        return sp.csr_matrix(self.membership @ sp.csr_matrix(counts))

    def means(self, values: Any) -> Array:
        """Means of values or covariates (units × d)."""
        return np.asarray(self.membership @ np.asarray(values, float)) / self.n_cells[:, None]

    def log_sizes(self, offsets: Array) -> Array:
        """Logarithms of the units' size factors: sums of those of their cells."""
        return np.log(self.membership @ np.exp(offsets))

    def paired(self) -> Array:
        """Indicators of samples that are on both sides, but the first (units × k): none if a sample is on one side only.

        With them, the sides are compared within samples.
        """
        samples, n_sides = np.unique(self.sample, return_counts=True)
        if (n_sides < 2).any():
            return np.zeros((len(self.sample), 0))
        return (self.sample[:, None] == samples[1:]).astype(float)
