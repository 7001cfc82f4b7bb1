"""The cells' half of the alternation: one damped Newton step of every posterior, with B and C fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import _linalg as linalg
from ._block import Block, GeneFeatures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._arrays import Array, DType
    from ._data import CountData
    from ._gaussian import GaussianFamily

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

    def divergence(self, cells: slice | NDArray[np.intp], family: GaussianFamily) -> Array:
        """KL(N(m, V) ‖ N(0, I)) of some cells, nats."""
        return _divergence(self.mean[cells], self.variance[cells], self.log_det[cells], family)


def _divergence(mean: Array, variance: Array, log_det: Array, family: GaussianFamily) -> Array:
    return 0.5 * ((mean * mean).sum(1) + family.trace(variance) - log_det - family.n_latent)


@dataclass(frozen=True)
class CellSteps:
    """The last step of each cell of a block."""

    direction: Array  # H⁻¹ g, (n, q)
    decrement: Array  # gᵀ H⁻¹ g, (n,): the bound's slope along the direction
    length: Array  # (n,)
    accepted: NDArray[np.bool_]  # (n,)

    @property
    def gain(self) -> Array:
        """What each cell's quadratic model promised for a step of length 1, nats, (n,)."""
        return 0.5 * self.decrement

    def take(self, rows: NDArray[np.intp]) -> CellSteps:
        """The steps of some of the cells."""
        return CellSteps(self.direction[rows], self.decrement[rows], self.length[rows], self.accepted[rows])

    def next_length(self, gradient: Array, length: Array) -> Array:
        """Secant estimate of the best next length, from the slope that the last step ended with.

        Mean and covariance move as if the other stayed, which overshoots in some cells; their slope then changes sign.
        """
        remaining = np.einsum("nq,nq->n", self.direction, gradient) / np.maximum(self.decrement, 1e-30)
        factor = np.clip(1 / np.maximum(1 - remaining, 1e-3), 0.25, 4.0)
        return np.where(self.accepted, np.minimum(1, self.length * factor), length)


@np.errstate(invalid="ignore", divide="ignore", over="ignore")  # a step that overflows is not taken
def step_cells(
    block: Block, states: CellStates, features: GeneFeatures, family: GaussianFamily, last: CellSteps | None = None
) -> CellSteps:
    """One step for the cells of `block`, whose rates are at their posteriors: move both, in place.

    With g = Cᵀ(y − A) − m and H = I + Cᵀ diag(A) C, a cell's mean moves along H⁻¹ g and its covariance to H⁻¹, by its
    own step length; a cell whose bound would fall stays, with a shorter length for the next step. `last` is the step before, if the genes did
    not change since.
    """
    cells, q = block.cells, family.n_latent
    mean, variance, log_det = states.mean[cells], states.variance[cells], states.log_det[cells]
    total, expected, precision = block.curvature(features)
    slopes = block.counts @ features.loadings
    gradient = slopes - expected - mean
    length = states.step[cells] if last is None else last.next_length(gradient, states.step[cells])
    covariance = precision.copy()
    log_det_precision = linalg.invert(covariance)

    direction = linalg.multiply(covariance, gradient)
    decrement = np.maximum(np.einsum("nq,nq->n", direction, gradient), 0)
    reach = TRUST_RADIUS / np.sqrt(np.maximum(decrement / (total + q), 1e-12))
    new_mean = mean + (length * np.minimum(1, reach))[:, None] * direction
    new_variance, new_log_det = family.update(precision, covariance, log_det_precision, variance, length)
    new_total = block.evaluate(new_mean, new_variance, features)

    gain = np.einsum("nq,nq->n", new_mean - mean, slopes) - (new_total - total)
    gain -= _divergence(new_mean, new_variance, new_log_det, family) - _divergence(mean, variance, log_det, family)
    accepted = gain >= -1e-4 - 2e-6 * total
    worse = np.flatnonzero(~accepted)
    if len(worse):
        new_mean[worse], new_variance[worse], new_log_det[worse] = mean[worse], variance[worse], log_det[worse]
        block.reevaluate(worse, mean[worse], variance[worse], features)
    states.mean[cells], states.variance[cells], states.log_det[cells] = new_mean, new_variance, new_log_det
    states.step[cells] = np.where(accepted, np.minimum(1, 2 * length), np.maximum(0.25 * length, MIN_STEP))
    return CellSteps(direction, decrement, length, accepted)


def move_cells(
    block: Block,
    states: CellStates,
    features: GeneFeatures,
    family: GaussianFamily,
    max_steps: int,
    last: CellSteps | None = None,
) -> None:
    """Step the cells of `block` until all have arrived at the optimum for the given genes, `max_steps` times at most.

    Once most have arrived, the others go on in a block of their own.
    """
    for left in reversed(range(max_steps)):
        last = step_cells(block, states, features, family, last)
        rows = np.flatnonzero(~(last.gain < CELL_TOLERANCE) | ~last.accepted)
        if not len(rows) or not left:
            return
        if 2 * len(rows) <= len(last.gain):
            part = block.narrow(rows)
            move_cells(part, states, features, family, left, last.take(rows))
            block.rates[rows] = part.rates
            return


def precisions(
    data: CountData, coefficients: Array, loadings: Array, states: CellStates, family: GaussianFamily
) -> Array:
    """Precisions H_i (q, q, n) of the best posteriors of any covariance for the current rates of a few cells."""
    features = GeneFeatures.of(data.membership, coefficients, loadings, family, states.dtype)
    block = Block(data.n_cells, data, family, states.dtype)
    block.load(0, data.n_cells, data.rows(0, data.n_cells))
    block.arrive(states, features)
    return block.curvature(features)[2]
