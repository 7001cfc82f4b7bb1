"""A block of cells: what of the data and of the genes' parameters stays in the cache while its cells are computed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.expectations import MAX_LOG_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData, DType, Rows
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._genes import GeneParameters
    from scpln.inference.newton._states import CellStates


@dataclass(frozen=True)
class GeneFeatures:
    """What cells need to know of B and C: every log-rate and curvature is a product of these with a cell's numbers."""

    rate: Array  # (e_j, B_j, C_j, ½ C_jᵀ · C_j), (p, G + d + q + size), with e_j the gene's group: log-rates
    curvature: Array  # (1, C_j, C_j C_jᵀ packed), (p, 1 + q + q(q+1)/2): totals, gradients, Hessians
    loadings: Array  # C, (p, q)
    uncertain: bool  # whether both have S_j, too: C_j C_jᵀ + S_j in place of C_j C_jᵀ, and S_j at their ends

    @classmethod
    def of(cls, membership: Array, genes: GeneParameters, family: GaussianFamily, dtype: DType) -> GeneFeatures:
        """Features of genes' groups (p, G), B (p, d), C (p, q) and S, in the given precision."""
        loadings, spread = genes.loadings, genes.spread
        one, outer = np.ones((len(loadings), 1)), linalg.packed_outer(loadings)
        of_spread = []
        if spread is not None:
            outer += spread
            of_spread = [spread]
        squares = [linalg.inner_weights(loadings.shape[1]) * 0.5 * s for s in of_spread]
        rate = np.hstack([membership, genes.coefficients, loadings, family.features(outer), *squares])
        curvature = np.hstack([one, loadings, outer, *of_spread])
        return cls(rate.astype(dtype), curvature.astype(dtype), loadings.astype(dtype), spread is not None)


class RateBlock:
    """A block of cells: its counts and rates, in buffers that are reused from block to block."""

    def __init__(self, size: int, data: CountData, family: GaussianFamily, dtype: DType) -> None:
        self._data, self._family, self._dtype = data, family, dtype
        p, d = data.n_genes, data.design.shape[1]
        self._counts = np.empty((size, p), dtype)
        self._rates = np.empty((size, p), dtype)
        self._n_known = data.membership.shape[1] + d
        n_squares = family.n_latent * (family.n_latent + 1) // 2
        self._inputs = np.empty((size, self._n_known + family.n_latent + family.size + n_squares), dtype)

    def load(self, start: int, stop: int, rows: Rows) -> None:
        """Take in the cells `start` to `stop`, whose counts are `rows`."""
        n = stop - start
        self.cells: slice | NDArray[np.intp] = slice(start, stop)
        self.counts, self.rates, self.inputs = self._counts[:n], self._rates[:n], self._inputs[:n]
        if isinstance(rows, np.ndarray):
            self.counts[...] = rows
        else:
            self.counts[...] = 0
            rows.astype(self._dtype).toarray(out=self.counts)
        self.design: Array = self._data.design[self.cells].astype(self._dtype)
        n_groups = self._n_known - self.design.shape[1]
        self.inputs[:, :n_groups] = self._data.log_sizes[self.cells]
        self.inputs[:, n_groups : self._n_known] = self.design

    def narrow(self, rows: NDArray[np.intp]) -> RateBlock:
        """A block of some of the cells, with copies of their counts and rates."""
        part = copy.copy(self)
        part.cells = self._cells_of(rows)
        part.counts, part.rates, part.inputs = self.counts[rows], self.rates[rows], self.inputs[rows]
        part.design = self.design[rows]
        return part

    def update_expectations(self, states: CellStates, features: GeneFeatures) -> None:
        """Evaluate the rates at the cells' current posteriors."""
        self.evaluate(states.mean[self.cells], states.variance[self.cells], features)

    def evaluate(self, mean: Array, variance: Array, features: GeneFeatures) -> Array:
        """Expected rates A (n, p) at posteriors N(m, V), and return their totals per cell."""
        inputs = self._fill(self.inputs, mean, variance, features)
        self._exponentiate(inputs, self.cells, self.rates, features)
        return self.rates.sum(1)

    def curvature(self, mean: Array, features: GeneFeatures) -> tuple[Array, Array, Array]:
        """Totals Σ_j A_ij (n,), slopes Cᵀ A_i (n, q), and precisions H_i = I + Cᵀ diag(A_i) C (q, q, n), of cells at `mean`.

        Uncertain loadings add Σ_j A_ij S_j to the precisions, and its product with the mean to the slopes.
        """
        q = features.loadings.shape[1]
        statistics, end = self.rates @ features.curvature, 1 + q + q * (q + 1) // 2
        slopes, precision = statistics[:, 1 : 1 + q], linalg.unpack(statistics[:, 1 + q : end], q)
        np.einsum("aan->an", precision)[...] += 1
        if features.uncertain:
            slopes = slopes + linalg.multiply(linalg.unpack(statistics[:, end:], q), mean)
        return statistics[:, 0], slopes, precision

    def _fill(self, inputs: Array, mean: Array, variance: Array, features: GeneFeatures) -> Array:
        """Write what the log-rates' features are multiplied by, in place, and return the columns that there are."""
        states = [mean, variance]
        if features.uncertain:
            packed = self._family.covariance(variance)
            states.append(packed + linalg.packed_outer(mean))
        inputs = inputs[:, : features.rate.shape[1]]
        np.concatenate(states, axis=1, out=inputs[:, self._n_known :])
        return inputs

    def reevaluate(self, rows: NDArray[np.intp], mean: Array, variance: Array, features: GeneFeatures) -> None:
        """Replace the rates of a few rows."""
        inputs = self._fill(self.inputs[rows], mean, variance, features)
        rates = np.empty((len(rows), self.rates.shape[1]), self._dtype)
        self._exponentiate(inputs, self._cells_of(rows), rates, features)
        self.rates[rows] = rates

    def _cells_of(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Positions of some of the cells in the data."""
        return np.arange(self.cells.start, self.cells.stop)[rows] if isinstance(self.cells, slice) else self.cells[rows]

    def _exponentiate(
        self, inputs: Array, cells: slice | NDArray[np.intp], rates: Array, features: GeneFeatures
    ) -> None:
        np.matmul(inputs, features.rate.T, out=rates)
        self._data.add_entry_offsets(cells, rates)
        np.minimum(rates, MAX_LOG_RATE, out=rates)
        np.exp(rates, out=rates)
