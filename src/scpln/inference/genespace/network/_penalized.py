"""The bound less the penalty of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from scpln.inference.genespace._profile import Metric, Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array
    from scpln.module.covariances import SparsePrecision

    Place: TypeAlias = tuple[Array, Array, Array]

#: How far slopes may be beyond the penalty where there is no edge, as a share of it.
BEYOND = 1e-3


@dataclass
class PenalizedProfile(Profile):
    r"""Sum of bounds, plus the log-prior of coefficients, less :math:`n \lambda \sum_{j \ne k} |\Omega_{jk}|`.

    Attributes
    ----------
    penalty
        λ.
    outside
        Whether the point is one where Ω is not positive definite.
    """

    covariance: SparsePrecision
    penalty: float = 0.0
    outside: bool = False

    def penalize(self, penalty: float) -> None:
        """Take another λ. The M-step of a bound that has ½ tr(ΩS) is a graphical lasso with 2λ."""
        self.penalty, self.covariance.penalty = penalty, 2 * penalty

    def move(self, point: Array) -> None:
        """Take B and Σ from a point, unless Ω is not positive definite there."""
        try:
            super().move(point)
            self.outside = False
        except np.linalg.LinAlgError:
            self.outside = True

    def settle(self, *, max_steps: int, tol: float) -> None:
        """Move posteriors towards their optimum, if there is one."""
        if not self.outside:
            super().settle(max_steps=max_steps, tol=tol)

    @property
    def place(self) -> Place:
        """B, Ω, and the likelihood's parameters."""
        return self.coefficients.copy(), self.covariance.precision, self.posteriors.terms.coordinates.copy()

    def return_to(self, place: Place) -> None:
        """Take over a place, with the edges that it has."""
        coefficients, precision, likelihood = place
        self.coefficients = coefficients.copy()
        self.covariance.restore({"precision": precision})
        self.posteriors.terms.move(likelihood)
        self.outside = False

    @property
    def n_cells(self) -> int:
        """Cells n."""
        return len(self.posteriors.bound)

    @property
    def objective(self) -> float:
        """What is maximised, in nats; −∞ where there is no Σ."""
        if self.outside:
            return -np.inf
        return super().objective - self.n_cells * self.penalty * self.covariance.size

    @property
    def slope(self) -> Array:
        """By the point; zero by edges that may not move."""
        slope = super().slope
        penalized, start = self.covariance.size_slope, self.coefficients.size
        slope[start : start + len(penalized)] -= self.n_cells * self.penalty * penalized
        return slope

    @property
    def spread(self) -> Array:
        """Inverse of the mean precision of what counts say of log-rates; where that is not positive definite, as for mean-field ones far from the optimum, of all at their average."""
        shift = self.posteriors.shift
        known = (shift.T @ shift - self.sums.gradient) / self.n_cells
        try:
            inverse = np.linalg.inv(np.linalg.cholesky(0.5 * (known + known.T)))
        except np.linalg.LinAlgError:
            return super().spread
        return np.asarray(inverse.T @ inverse)

    def metric(self) -> NetworkMetric:
        """The inverse Fisher information, at the edges as they are."""
        usual = vars(super().metric())
        return NetworkMetric(**usual, solve=self.covariance.solver(usual["spread"]))

    @property
    def pull(self) -> Array:
        """Slopes of the bound by entries of Ω, over 2 n, (p, p): within ±λ where there is no edge, and ±λ where there is one, at the optimum."""
        around = self.covariance.dense @ self.sums.gradient @ self.covariance.dense
        return -around / (2 * self.n_cells)

    @property
    def misses_edges(self) -> bool:
        """Whether the bound rises by more than the penalty where an edge is let in."""
        pull = np.triu(np.abs(self.pull), 1)
        pull[self.covariance.edges] = 0
        return bool(pull.max(initial=0.0) > (1 + BEYOND) * self.penalty)


@dataclass(frozen=True)
class NetworkMetric(Metric):
    """The same, as it was when it was made: which edges there are may change."""

    solve: Callable[[Array], Array]

    def by_covariance(self, slope: Array) -> Array:
        """Times a slope by the coordinates of Σ."""
        return self.solve(slope)
