"""A block of cells under any likelihood: its counts, and the expectations that a quadrature gives for them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.module import CountBatch

from . import _linalg as linalg
from ._quadrature import torch_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._arrays import Array, DType, Rows
    from ._cells import CellStates
    from ._data import CountData
    from ._gaussian import GaussianFamily
    from ._quadrature import Expectation, Quadrature

#: Cells × genes of one block: with a handful of nodes, in float32, few enough for the third-level cache.
BLOCK_PAIRS = 96 * 1024


@dataclass(frozen=True)
class LogRateFeatures:
    """What cells need to know of B and C: moments and curvatures of log-rates are products of these with a cell's numbers."""

    mean: Array  # (1, B_j, C_j), (p, 1 + d + q)
    variance: Array  # C_jᵀ · C_j, (p, size)
    curvature: Array  # (1, C_j C_jᵀ packed), (p, 1 + q(q+1)/2)
    loadings: Array  # C, (p, q)

    @classmethod
    def of(cls, coefficients: Array, loadings: Array, family: GaussianFamily, dtype: DType) -> LogRateFeatures:
        """Features of B (p, d) and C (p, q), in the given precision."""
        one = np.ones((len(loadings), 1))
        return cls(
            np.hstack([one, coefficients, loadings]).astype(dtype),
            (2 * family.features(loadings)).astype(dtype),
            np.hstack([one, linalg.packed_outer(loadings)]).astype(dtype),
            loadings.astype(dtype),
        )


class LikelihoodBlock:
    """A block of cells, its counts, and expectations at its current posteriors."""

    cells: NDArray[np.intp]
    counts: CountBatch
    design: Array
    expectation: Expectation

    def __init__(self, data: CountData, quadrature: Quadrature) -> None:
        self._data, self.quadrature = data, quadrature

    def load(self, start: int, stop: int, rows: Rows) -> None:
        """Take in the cells `start` to `stop`, whose counts are `rows`."""
        self._take(np.arange(start, stop), rows)

    def narrow(self, rows: NDArray[np.intp]) -> LikelihoodBlock:
        """A block of some of the cells."""
        part = copy.copy(self)
        part._take(self.cells[rows], self._rows[rows])
        part.expectation = self.expectation.take(rows)
        return part

    def _take(self, cells: NDArray[np.intp], rows: Rows) -> None:
        dtype = self.quadrature.dtype
        self.cells, self._rows = cells, rows
        self.counts = CountBatch.from_counts(rows, torch_dtype(dtype))
        self.design = self._data.design[cells].astype(dtype)
        self._known = np.hstack([self._data.offsets[cells, None], self._data.design[cells]]).astype(dtype)

    def arrive(self, states: CellStates, features: LogRateFeatures, *, check: bool = False) -> None:
        """Evaluate the expectations at the cells' current posteriors, and `check` that they are finite."""
        self.expectation = self.evaluate(states.mean[self.cells], states.variance[self.cells], features)
        if check:
            require_finite(self.expectation.value, self.cells, self.counts)

    def evaluate(self, mean: Array, variance: Array, features: LogRateFeatures) -> Expectation:
        """Expectations at posteriors N(m, V)."""
        return self.quadrature.expect(self.counts, *self.moments(mean, variance, features))

    def parameter_gradient(self, mean: Array, variance: Array, features: LogRateFeatures) -> Array:
        """Gradient by the likelihood's parameters, (p, g), at posteriors N(m, V)."""
        return self.quadrature.parameter_gradient(self.counts, *self.moments(mean, variance, features))

    def moments(self, mean: Array, variance: Array, features: LogRateFeatures) -> tuple[Array, Array]:
        """Means μ and variances v of the log-rates, (n, p) each, at posteriors N(m, V)."""
        return np.hstack([self._known, mean]) @ features.mean.T, variance @ features.variance.T


def block_size(data: CountData, batch_size: int | None) -> int:
    """Cells per block: at most `batch_size`, and as many as keep a block within the processor's cache."""
    cached = int(np.clip(BLOCK_PAIRS // max(data.n_genes, 1), 16, 2048))
    return max(1, min(cached, data.n_cells, batch_size or cached))


def require_finite(value: Array, cells: NDArray[np.intp], counts: CountBatch) -> None:
    """Raise an error that names the first cell whose `value`, (n,), is not finite, and the likely cause."""
    wrong = np.flatnonzero(~np.isfinite(value))
    if len(wrong):
        genes = np.flatnonzero(~np.isfinite(counts.dense[wrong[0]].numpy()))
        cause = (
            f"its data are not finite at genes {genes[:5].tolist()}."
            if len(genes)
            else "look for a size factor, covariate or parameter that is extreme or not finite."
        )
        msg = f"The bound of cell {int(cells[wrong[0]])} is not finite: {cause}"
        raise FloatingPointError(msg)
