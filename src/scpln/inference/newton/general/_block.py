"""A block of cells under any likelihood: its counts, and expectations at its posteriors."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.expectations import torch_dtype
from scpln.module import CountBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData, DType, Rows
    from scpln.inference.expectations import Expectation, Expectations
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._genes import GeneParameters
    from scpln.inference.newton._states import CellStates

#: Cells × genes × nodes of one block: few enough for the third-level cache, in float32.
BLOCK_EVALUATIONS = 672 * 1024


@dataclass(frozen=True)
class LogRateFeatures:
    """What cells need to know of B and C: moments and curvatures of log-rates are products of these with a cell's numbers."""

    mean: Array  # (e_j, B_j, C_j), (p, G + d + q), with e_j the gene's group
    variance: Array  # C_jᵀ · C_j, (p, size)
    curvature: Array  # (1, C_j C_jᵀ packed), (p, 1 + q(q+1)/2)
    loadings: Array  # C, (p, q)
    family: GaussianFamily
    uncertain: bool  # whether there is S_j, too: C_j C_jᵀ + S_j in place of C_j C_jᵀ, and S_j at the ends

    @classmethod
    def of(cls, membership: Array, genes: GeneParameters, family: GaussianFamily, dtype: DType) -> LogRateFeatures:
        """Features of genes' groups (p, G), B (p, d), C (p, q) and S, in the given precision."""
        loadings, spread = genes.loadings, genes.spread
        one, outer = np.ones((len(loadings), 1)), linalg.packed_outer(loadings)
        of_spread = []
        if spread is not None:
            outer += spread
            of_spread = [spread]
        squares = [linalg.inner_weights(loadings.shape[1]) * s for s in of_spread]
        return cls(
            np.hstack([membership, genes.coefficients, loadings]).astype(dtype),
            np.hstack([2 * family.features(outer), *squares]).astype(dtype),
            np.hstack([one, outer, *of_spread]).astype(dtype),
            loadings.astype(dtype),
            family,
            spread is not None,
        )

    def slope(self, slope: Array, weight: Array, mean: Array) -> Array:
        """Slope of cells' expected log-probabilities by their means, (n, q), from E[ℓ'] and −E[ℓ''], (n, p)."""
        by_mean: Array = slope @ self.loadings
        if self.uncertain:
            q = self.loadings.shape[1]
            pull = weight @ self.curvature[:, 1 + q * (q + 1) // 2 :]
            by_mean -= linalg.multiply(linalg.unpack(pull, q), mean)
        return by_mean


class LikelihoodBlock:
    """A block of cells, its counts, and expectations at its current posteriors."""

    cells: NDArray[np.intp]
    counts: CountBatch
    design: Array
    expectation: Expectation

    def __init__(self, data: CountData, rule: Expectations) -> None:
        self._data, self._rule = data, rule

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
        dtype = self._rule.dtype
        self.cells, self._rows = cells, rows
        self.counts = CountBatch.from_counts(rows, torch_dtype(dtype))
        self.design = self._data.design[cells].astype(dtype)
        self._known = np.hstack([self._data.log_sizes[cells], self._data.design[cells]]).astype(dtype)

    def update_expectations(self, states: CellStates, features: LogRateFeatures, *, check: bool = False) -> None:
        """Evaluate the expectations at the cells' current posteriors, and `check` that they are finite."""
        self.expectation = self.evaluate(states.mean[self.cells], states.variance[self.cells], features)
        if check:
            require_finite(self.expectation.value, self.cells, self.counts)

    def evaluate(self, mean: Array, variance: Array, features: LogRateFeatures) -> Expectation:
        """Expectations at posteriors N(m, V)."""
        return self._rule.expect(self.counts, *self.moments(mean, variance, features))

    def parameter_gradient(self, mean: Array, variance: Array, features: LogRateFeatures) -> Array:
        """Gradient by the likelihood's parameters, (p, g), at posteriors N(m, V)."""
        return self._rule.parameter_gradient(self.counts, *self.moments(mean, variance, features))

    def moments(self, mean: Array, variance: Array, features: LogRateFeatures) -> tuple[Array, Array]:
        """Means μ and variances v of the log-rates, (n, p) each, at posteriors N(m, V)."""
        states = variance
        if features.uncertain:
            states = np.hstack([variance, features.family.covariance(variance) + linalg.packed_outer(mean)])
        log_rates = np.hstack([self._known, mean]) @ features.mean.T
        self._data.add_entry_offsets(self.cells, log_rates)
        return log_rates, states @ features.variance.T


def block_size(data: CountData, rule: Expectations, n_threads: int, batch_size: int | None) -> int:
    """Cells per block: at most `batch_size`, as many as keep a block in the processor's cache, and as many for each thread.

    Closed forms have no nodes, so that their blocks have more cells: with small ones, what is done once a block dominates.
    """
    cached = int(np.clip(BLOCK_EVALUATIONS // max(rule.n_evaluations, 1), 16, 2048))
    cells_per_thread = max(1, -(-data.n_cells // n_threads))
    most = min(cached, cells_per_thread, batch_size or cached)
    return -(-cells_per_thread // -(-cells_per_thread // most))


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
