"""Posteriors of cells while they move, and the steps that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg

from ._stages import START_VARIANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, DType

    from ._families import GaussianFamily


#: A cell whose last step had a predicted gain below this has converged, nats.
CELL_TOLERANCE = 1e-6
#: A cell that ran out of steps, and whose last had a predicted gain above this or none, has not: nats of no matter, but above
#: the rounding of deep cells.
STUCK_GAIN = 1e-2
#: Shortest step length that a cell is brought down to.
MIN_STEP = 2.0**-20
#: Largest root-mean-square change of a cell's log-rates (weighted by its rates) and latent state in one step.
TRUST_RADIUS = 2.0
#: Largest variance of a log-rate that a search starts from.
LARGEST_START = 2.0
#: A slope below minus this is no rounding of 0, nats.
DOWNWARDS = 1e-3


def start_variance(loadings: Array) -> float:
    """Variance of posteriors to start from: small enough that the variance of no log-rate is above 2.

    Where loadings are 30, rates under a variance of 0.1 would be e⁴⁵ times too large, and no step leads back from there.
    """
    largest = float(np.square(loadings).sum(1).max(initial=0.0))
    return START_VARIANCE if largest * START_VARIANCE <= LARGEST_START else LARGEST_START / largest


def slope_along(direction: Array, gradient: Array) -> Array:
    """Slopes of the bounds of cells along their directions, (n,): infinite where rounding makes them point downwards."""
    slope = np.einsum("nq,nq->n", direction, gradient)
    return np.where(slope < -DOWNWARDS, np.inf, np.maximum(slope, 0))


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

    @classmethod
    def known(cls, mean: Array, covariance: Array) -> CellStates:
        """States that stay where they are: means (n, q) and packed full-rank covariances (n, q(q+1)/2), in double precision."""
        n = len(mean)
        return cls(mean.astype(np.float64), covariance.astype(np.float64), np.zeros(n), np.ones(n))

    @classmethod
    def from_full(cls, mean: Array, covariance: Array, dtype: DType) -> CellStates:
        """States of full rank that move from means (n, q) and packed covariances (n, q(q+1)/2)."""
        log_det = linalg.invert(linalg.unpack(linalg.nearest_definite(covariance.astype(np.float64)), mean.shape[1]))
        return cls(mean.astype(dtype), covariance.astype(dtype), log_det.astype(dtype), np.ones(len(mean), dtype))

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
        """Predicted gain of each cell's quadratic model for a step of length 1, nats, (n,)."""
        return 0.5 * self.decrement

    @property
    def stuck(self) -> NDArray[np.bool_]:
        """Whether a cell that takes no further step is away from its optimum, (n,)."""
        return ~(self.gain < STUCK_GAIN)

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
