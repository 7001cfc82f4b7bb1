"""The cells' half of the alternation: one damped Newton step of every posterior, with B and C fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import _linalg as linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._arrays import Array, DType
    from ._data import CountData
    from ._gaussian import GaussianFamily

#: Log-rates are cut here: e³⁰ is beyond any count, and keeps a step that went too far finite.
MAX_LOG_RATE = 30.0
#: A cell whose last step promised to gain less than this has arrived, nats.
CELL_TOLERANCE = 1e-6
#: Shortest step length that a cell is brought down to.
MIN_STEP = 2.0**-20
#: Largest root-mean-square change of a cell's log-rates (weighted by its rates) and latent state in one step.
TRUST_RADIUS = 2.0


@dataclass
class CellStates:
    """Posteriors N(m_i, V_i) of n cells, and the length of each cell's next step."""

    mean: Array  # m, (n, q)
    variance: Array  # V, packed, (n, family.size)
    log_det: Array  # log det V, (n,)
    step: Array  # in (0, 1], (n,)

    @classmethod
    def at(cls, mean: Array, family: GaussianFamily, variance: float, dtype: DType) -> CellStates:
        """States with the given means and V = `variance` · I, in the given precision."""
        n, q = mean.shape
        return cls(
            mean.astype(dtype),
            family.isotropic(n, variance).astype(dtype),
            np.full(n, q * np.log(variance), dtype),
            np.ones(n, dtype),
        )

    @property
    def dtype(self) -> DType:
        """Precision in which cells are computed."""
        return self.mean.dtype.type

    def take(self, cells: NDArray[np.intp]) -> CellStates:
        """Copy of some of the states."""
        return CellStates(self.mean[cells], self.variance[cells], self.log_det[cells], self.step[cells])

    def divergence(self, cells: slice, family: GaussianFamily) -> Array:
        """KL(N(m, V) ‖ N(0, I)) of some cells, nats."""
        return _divergence(self.mean[cells], self.variance[cells], self.log_det[cells], family)


def _divergence(mean: Array, variance: Array, log_det: Array, family: GaussianFamily) -> Array:
    return 0.5 * ((mean * mean).sum(1) + family.trace(variance) - log_det - family.n_latent)


@dataclass(frozen=True)
class GeneFeatures:
    """What cells need to know of B and C: every log-rate and curvature is a product of these with a cell's numbers."""

    rate: Array  # (1, B_j, C_j, ½ C_jᵀ · C_j), (p, 1 + d + q + size): log-rates
    curvature: Array  # (1, C_j, C_j C_jᵀ packed), (p, 1 + q + q(q+1)/2): totals, gradients, Hessians
    loadings: Array  # C, (p, q)

    @classmethod
    def of(cls, coefficients: Array, loadings: Array, family: GaussianFamily, dtype: DType) -> GeneFeatures:
        """Features of B (p, d) and C (p, q), in the given precision."""
        one = np.ones((len(loadings), 1))
        rate = np.hstack([one, coefficients, loadings, family.features(loadings)])
        curvature = np.hstack([one, loadings, linalg.packed_outer(loadings)])
        return cls(rate.astype(dtype), curvature.astype(dtype), loadings.astype(dtype))


class Block:
    """A block of cells: its counts and rates, in buffers that are reused from block to block."""

    def __init__(self, size: int, data: CountData, family: GaussianFamily, dtype: DType) -> None:
        self._data, self._dtype = data, dtype
        p, d = data.n_genes, data.design.shape[1]
        self._counts = np.empty((size, p), dtype)
        self._rates = np.empty((size, p), dtype)
        self._inputs = np.empty((size, 1 + d + family.n_latent + family.size), dtype)

    def load(self, start: int, stop: int) -> None:
        """Read the cells `start` to `stop`."""
        n = stop - start
        self.cells = slice(start, stop)
        self.counts, self.rates, self.inputs = self._counts[:n], self._rates[:n], self._inputs[:n]
        self.counts[...] = 0
        self._data.rows(start, stop).astype(self._dtype).toarray(out=self.counts)
        self.design: Array = self._data.design[self.cells].astype(self._dtype)
        self.inputs[:, 0] = self._data.offsets[self.cells]
        self.inputs[:, 1 : 1 + self.design.shape[1]] = self.design

    def arrive(self, states: CellStates, features: GeneFeatures) -> None:
        """Evaluate the rates at the cells' current posteriors."""
        self.evaluate(states.mean[self.cells], states.variance[self.cells], features)

    def evaluate(self, mean: Array, variance: Array, features: GeneFeatures) -> Array:
        """Expected rates A (n, p) at posteriors N(m, V), and return their totals per cell."""
        self.inputs[:, 1 + self.design.shape[1] :] = np.hstack([mean, variance])
        self._exponentiate(self.inputs, self.rates, features)
        return self.rates.sum(1)

    def curvature(self, features: GeneFeatures) -> tuple[Array, Array, Array]:
        """Totals Σ_j A_ij (n,), slopes Cᵀ A_i (n, q), and precisions H_i = I + Cᵀ diag(A_i) C (q, q, n), of each cell."""
        q = features.loadings.shape[1]
        statistics = self.rates @ features.curvature
        precision = linalg.unpack(statistics[:, 1 + q :], q)
        np.einsum("aan->an", precision)[...] += 1
        return statistics[:, 0], statistics[:, 1 : 1 + q], precision

    def reevaluate(self, rows: NDArray[np.intp], mean: Array, variance: Array, features: GeneFeatures) -> None:
        """Replace the rates of a few rows."""
        inputs = self.inputs[rows]
        inputs[:, 1 + self.design.shape[1] :] = np.hstack([mean, variance])
        rates = np.empty((len(rows), self.rates.shape[1]), self._dtype)
        self._exponentiate(inputs, rates, features)
        self.rates[rows] = rates

    @staticmethod
    def _exponentiate(inputs: Array, rates: Array, features: GeneFeatures) -> None:
        np.matmul(inputs, features.rate.T, out=rates)
        np.minimum(rates, MAX_LOG_RATE, out=rates)
        np.exp(rates, out=rates)


@np.errstate(invalid="ignore", divide="ignore", over="ignore")  # a step that overflows is not taken
def step_cells(block: Block, states: CellStates, features: GeneFeatures, family: GaussianFamily) -> Array:
    """One step for the cells of `block`, whose rates are at their posteriors: move both, in place.

    With g = Cᵀ(y − A) − m and H = I + Cᵀ diag(A) C, a cell's mean moves along H⁻¹ g and its covariance to H⁻¹, by its
    own step length; a cell whose bound would fall stays, and halves its step.

    Returns
    -------
    The gain that each cell's quadratic model promised for its mean, ½ g_iᵀ H_i⁻¹ g_i, nats, (n,).
    """
    cells, q = block.cells, family.n_latent
    mean, variance, log_det, step = (
        states.mean[cells],
        states.variance[cells],
        states.log_det[cells],
        states.step[cells],
    )
    total, expected, precision = block.curvature(features)
    slopes = block.counts @ features.loadings
    gradient = slopes - expected - mean
    covariance = precision.copy()
    log_det_precision = linalg.invert(covariance)

    direction = linalg.multiply(covariance, gradient)
    decrement = np.maximum(np.einsum("nq,nq->n", direction, gradient), 0)
    reach = TRUST_RADIUS / np.sqrt(np.maximum(decrement / (total + q), 1e-12))
    new_mean = mean + (step * np.minimum(1, reach))[:, None] * direction
    new_variance, new_log_det = family.update(precision, covariance, log_det_precision, variance, step)
    new_total = block.evaluate(new_mean, new_variance, features)

    gain = np.einsum("nq,nq->n", new_mean - mean, slopes) - (new_total - total)
    gain -= _divergence(new_mean, new_variance, new_log_det, family) - _divergence(mean, variance, log_det, family)
    worse = np.flatnonzero(~(gain >= -1e-4 - 2e-6 * total))
    if len(worse):
        new_mean[worse], new_variance[worse], new_log_det[worse] = mean[worse], variance[worse], log_det[worse]
        block.reevaluate(worse, mean[worse], variance[worse], features)
    step = np.minimum(1, 2 * step)
    step[worse] = np.maximum(0.25 * step[worse], MIN_STEP)
    states.mean[cells], states.variance[cells], states.log_det[cells], states.step[cells] = (
        new_mean,
        new_variance,
        new_log_det,
        step,
    )
    return 0.5 * decrement


def move_cells(
    block: Block, states: CellStates, features: GeneFeatures, family: GaussianFamily, max_steps: int
) -> None:
    """Step the cells of `block` until all have arrived at the optimum for the given genes, `max_steps` times at most."""
    for _ in range(max_steps):
        if step_cells(block, states, features, family).max() < CELL_TOLERANCE:
            return


def precisions(
    data: CountData, coefficients: Array, loadings: Array, states: CellStates, family: GaussianFamily
) -> Array:
    """Precisions H_i (q, q, n) of the best posteriors of any covariance for the current rates of a few cells."""
    features = GeneFeatures.of(coefficients, loadings, family, states.dtype)
    block = Block(data.n_cells, data, family, states.dtype)
    block.load(0, data.n_cells)
    block.arrive(states, features)
    return block.curvature(features)[2]
