"""The bound as a function of coefficients and covariance alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, Threads
    from scpln.module.covariances import Covariance

    from ._posteriors import Posteriors, Sums
    from .terms import Terms

#: Mean rates below this are taken for this much, where they say how well a gene's parameters are known.
LEAST_RATE = 1e-2


def ridge_of(design: Array, prior_precision: float) -> tuple[Array, Array, Array]:
    """Inverse variances of the prior of coefficients, (d,), of which the intercept has none, XᵀX, and the inverse of both together."""
    ridge = np.full(design.shape[1], prior_precision)
    ridge[0] = 0
    gram = design.T @ design
    return ridge, gram, np.linalg.pinv(gram + np.diag(ridge), hermitian=True)


@dataclass
class Profile:
    r"""Sum of bounds at the best posteriors, plus the log-prior of coefficients, with its slopes by B and coordinates of Σ.

    At their optimum posteriors do not change the bound, so that its slopes are those at given posteriors:
    :math:`\sum_i x_i \alpha_i^T` by B, and ½G by Σ (`Sums`). With curvatures of A, which are rates of Poisson counts, counts say of log-rates
    what a Gaussian observation with variance 1/A does; of the mean and covariance of such data, :math:`N(Bx, P)` with :math:`P = \Sigma + \text{diag}(1/\bar A)`, the
    Fisher information is known, and it is the metric in which steps are taken.

    Attributes
    ----------
    coefficients, covariance
        B (p, d) and Σ.
    posteriors
        Of all cells.
    prior_precision
        λ of the prior N(0, 1/λ) of coefficients other than the intercept's; 0 for none.
    """

    coefficients: Array
    covariance: Covariance
    posteriors: Posteriors
    prior_precision: float
    pool: Threads

    def __post_init__(self) -> None:
        self.ridge, self.gram, self.inverse_gram = ridge_of(self.posteriors.observations.design, self.prior_precision)
        self.sums: Sums

    @property
    def point(self) -> Array:
        """B, the coordinates of Σ, and the likelihood's parameters, in a row."""
        parts = (self.coefficients.T.ravel(), self.covariance.coordinates, self.posteriors.terms.coordinates)
        return np.concatenate(parts)

    def move(self, point: Array) -> None:
        """Take B, Σ and the likelihood's parameters from a point."""
        sizes = np.cumsum([self.coefficients.size, len(self.covariance.coordinates)])
        coefficients, covariance, likelihood = np.split(point, sizes)
        self.coefficients = coefficients.reshape(self.coefficients.T.shape).T.copy()
        self.covariance.move(covariance)
        self.posteriors.terms.move(likelihood)

    def settle(self, *, max_steps: int, tol: float) -> None:
        """Move posteriors towards their optimum."""
        self.sums = self.posteriors.settle(self.coefficients, self.covariance, self.pool, max_steps=max_steps, tol=tol)

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
        by_coefficients = self.sums.design - (self.ridge * self.coefficients).T
        by_covariance = self.covariance.slope(self.sums.gradient)
        return np.concatenate([by_coefficients.ravel(), by_covariance, self.sums.likelihood])

    @property
    def spread(self) -> Array:
        """Covariance P of what counts say of log-rates, at the curvatures as they are, (p, p)."""
        rates = np.maximum(np.maximum(self.posteriors.curvature, 0).mean(0), LEAST_RATE)
        return self.covariance.dense + np.diag(1 / rates)

    def metric(self) -> Callable[[Array], Array]:
        """The inverse Fisher information at the curvatures as they are, which is applied to a slope."""
        mean, terms = self.posteriors.mean, self.posteriors.terms
        terms.learn_curvature(mean, self.posteriors.variance, self.pool)
        return Metric(self.covariance, self.spread, self.inverse_gram, len(mean), terms)

    def maximize_given_posteriors(self) -> None:
        r"""Step of expectation maximisation in B, in closed form, and then in Σ.

        The intercept apart, B is shrunk: :math:`X^T X B^T + \lambda D B^T \Sigma = X^T M`, solved in the axes of Σ.
        """
        design, mean = self.posteriors.observations.design, self.posteriors.mean
        prior = self.covariance.dense
        variances = prior + prior @ (self.sums.gradient @ prior) / len(mean)  # mean second moment of residuals
        before = mean - design @ self.coefficients.T
        values, vectors = np.linalg.eigh(prior)
        systems = self.gram + values[:, None, None] * np.diag(self.ridge)
        target = (design.T @ mean) @ vectors
        solved = np.linalg.pinv(systems, hermitian=True) @ target.T[:, :, None]
        self.coefficients = vectors @ solved[:, :, 0]
        after = mean - design @ self.coefficients.T
        moment = variances + (after.T @ after - before.T @ before) / len(mean)
        self.update_covariance(0.5 * (moment + moment.T))

    def update_covariance(self, moment: Array) -> None:
        """Maximise over Σ, given the mean second moment of residuals."""
        self.covariance.update(moment)


@dataclass(frozen=True)
class Metric:
    """Inverse Fisher information of B and Σ for Gaussian data with covariance P, and about that of the likelihood's parameters."""

    covariance: Covariance
    spread: Array  # P, (p, p)
    inverse_gram: Array  # (XᵀX)⁻¹, (d, d)
    n_cells: int
    terms: Terms

    def __call__(self, slope: Array) -> Array:
        """Times a slope by the point."""
        p, d = len(self.spread), len(self.inverse_gram)
        coefficients, covariance, likelihood = np.split(slope, np.cumsum([d * p, len(self.covariance.coordinates)]))
        by_coefficients = self.inverse_gram @ coefficients.reshape(d, p) @ self.spread
        by_covariance = self.by_covariance(covariance) / (2 * self.n_cells)
        return np.concatenate([by_coefficients.ravel(), by_covariance, self.terms.precondition(likelihood)])

    def by_covariance(self, slope: Array) -> Array:
        """Times a slope by the coordinates of Σ, and 2 n."""
        return self.covariance.precondition(slope, self.spread)
