"""The bound of series as a function of coefficients, covariance and autoregression alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._profile import LEAST_RATE, ridge_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, Threads

    from ._posteriors import SeriesStates, SeriesSums
    from ._process import Process


@dataclass
class SeriesProfile:
    r"""Sum of bounds at the best posteriors, plus the log-prior of coefficients, with its slopes by B, the process and the likelihood.

    What `Profile` is for independent cells, and to be maximised by the same quasi-Newton steps. At their optimum posteriors do not change the bound, so that its slopes are those
    at given posteriors: :math:`\sum_t x_t \alpha_t^T` by B, and those of `Smoother.slope`. The metric is that of independent cells, with the
    variance of counts around log-rates taken off what they say of φ.

    Attributes
    ----------
    coefficients, process
        B (p, d), and Σ with Φ.
    posteriors
        Of all series.
    prior_precision
        λ of the prior N(0, 1/λ) of coefficients other than the intercept's; 0 for none.
    """

    coefficients: Array
    process: Process
    posteriors: SeriesStates
    prior_precision: float
    pool: Threads

    def __post_init__(self) -> None:
        self.ridge, _, self.inverse_gram = ridge_of(self.posteriors.observations.design, self.prior_precision)
        self.sums: SeriesSums

    @property
    def point(self) -> Array:
        """B, coordinates of the process, and the likelihood's parameters, in a row."""
        return np.concatenate(
            [self.coefficients.T.ravel(), self.process.coordinates, self.posteriors.terms.coordinates]
        )

    def parts(self, point: Array) -> tuple[Array, Array, Array]:
        """B (d, p), coordinates of the process, and the likelihood's, of such a row."""
        sizes = np.cumsum([self.coefficients.size, len(self.process.coordinates)])
        coefficients, process, likelihood = np.split(point, sizes)
        return coefficients.reshape(self.coefficients.T.shape), process, likelihood

    def move(self, point: Array) -> None:
        """Take B, the process and the likelihood's parameters from a point."""
        coefficients, process, likelihood = self.parts(point)
        self.coefficients = coefficients.T.copy()
        self.process.move(process)
        self.posteriors.terms.move(likelihood)

    def settle(self, *, max_steps: int, tol: float) -> None:
        """Move posteriors towards their optimum."""
        self.sums = self.posteriors.settle(self.coefficients, self.process, self.pool, max_steps=max_steps, tol=tol)

    @property
    def log_prior(self) -> float:
        """Of the coefficients, up to a constant."""
        return -0.5 * float((self.ridge * self.coefficients**2).sum())

    @property
    def objective(self) -> float:
        """What is maximised, in nats."""
        return self.sums.bound + self.log_prior

    @property
    def slope(self) -> Array:
        """By the point."""
        states = self.posteriors
        by_coefficients = self.sums.design - (self.ridge * self.coefficients).T
        by_likelihood = states.terms.slope(slice(None), states.mean, states.variance)
        return np.concatenate([by_coefficients.ravel(), self.process.slope(self.sums.process), by_likelihood])

    def metric(self) -> Callable[[Array], Array]:
        """About the inverse Fisher information, which is applied to a slope."""
        states, process, n = self.posteriors, self.process, len(self.posteriors.mean)
        states.terms.learn_curvature(states.mean, states.variance, self.pool)
        noise = 1 / np.maximum(np.maximum(states.curvature, 0).mean(0), LEAST_RATE)
        spread = process.stationary + np.diag(noise)
        own = process.family.dense + np.diag(noise)
        variance = np.diagonal(process.stationary)
        known = states.order.n_steps * np.square(variance / (variance + noise))
        inverse = 1 / np.maximum(known if process.kind == "diagonal" else known.sum(keepdims=True), 1.0)

        def apply(slope: Array) -> Array:
            coefficients, rest, likelihood = self.parts(slope)
            family, angles = np.split(rest, [len(rest) - len(inverse)])
            by_coefficients = self.inverse_gram @ coefficients @ spread
            by_family = process.family.precondition(family, own) / (2 * n)
            by_likelihood = states.terms.precondition(likelihood)
            return np.concatenate([by_coefficients.ravel(), by_family, inverse * angles, by_likelihood])

        return apply
