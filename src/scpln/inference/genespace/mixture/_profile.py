"""The bound of a mixture as a function of its parameters alone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._profile import LEAST_RATE
from scpln.module.covariances._base import LEAST_VARIANCE

if TYPE_CHECKING:
    from scpln.core import Array, Threads

    from ._parameters import MixtureParameters
    from ._posteriors import ComponentPosteriors, MixtureSums

#: Cells that a component counts for at least, where it is divided by its size.
LEAST_SIZE = 1e-8


@dataclass
class MixtureProfile:
    r"""Sum of bounds at the best posteriors and responsibilities, plus the log-prior of coefficients, with its slopes.

    What `Profile` is for one component, and to be maximised by the same steps. As responsibilities are at their optimum, slopes by the parameters of component k
    are its sums with cells weighted by :math:`\tau_{ik}`, and those by the logarithms of weights :math:`\sum_i (\tau_{ik} - \pi_k)`.
    In the metric, components are taken for known: means have the inverse information :math:`P_k / n_k`, with
    :math:`P_k = \Sigma_k + \text{diag}(1 / \bar A_k)`, and coefficients that of the design's scatter within components.

    Attributes
    ----------
    parameters, posteriors
        Of the components, and of all cells under each.
    prior_precision
        λ of the prior N(0, 1/λ) of coefficients other than the components' means; 0 for none.
    """

    parameters: MixtureParameters
    posteriors: ComponentPosteriors
    prior_precision: float
    pool: Threads

    def __post_init__(self) -> None:
        self.logits = np.log(self.parameters.weights)
        self.sums: MixtureSums

    @property
    def point(self) -> Array:
        """Means, coefficients, logarithms of weights and coordinates of the covariances, in a row."""
        given = self.parameters
        covariances = [covariance.coordinates for covariance in given.covariances]
        return np.concatenate([given.means.ravel(), given.slopes.T.ravel(), self.logits, *covariances])

    def parts(self, point: Array) -> tuple[Array, Array, Array, list[Array]]:
        """Means (K, p), coefficients (d − 1, p), logarithms of weights (K,) and coordinates (k,) of each covariance, of such a row."""
        given = self.parameters
        sizes = [given.means.size, given.slopes.size, len(self.logits)]
        sizes += [len(covariance.coordinates) for covariance in given.covariances]
        means, slopes, logits, *covariances = np.split(point, np.cumsum(sizes)[:-1])
        return means.reshape(given.means.shape), slopes.reshape(given.slopes.T.shape), logits, covariances

    def move(self, point: Array) -> None:
        """Take the parameters from a point."""
        means, slopes, logits, covariances = self.parts(point)
        given = self.parameters
        given.means, given.slopes = means.copy(), slopes.T.copy()
        self.logits = logits - logits.max()
        self.logits = self.logits - np.log(np.exp(self.logits).sum())
        given.weights = np.exp(self.logits)
        for covariance, coordinates in zip(given.covariances, covariances, strict=True):
            covariance.move(coordinates)

    def settle(self, *, max_steps: int, tol: float) -> None:
        """Move posteriors towards their optimum."""
        self.sums = self.posteriors.settle(self.parameters, self.pool, max_steps=max_steps, tol=tol)

    @property
    def log_prior(self) -> float:
        """Of the coefficients, up to a constant."""
        return -0.5 * self.prior_precision * float((self.parameters.slopes**2).sum())

    @property
    def objective(self) -> float:
        """What is maximised, in nats."""
        return self.sums.bound + self.log_prior

    @property
    def slope(self) -> Array:
        """By the point."""
        sums, given = self.sums, self.parameters
        by_means = np.stack([part.design[0] for part in sums.components])
        by_slopes = sum(part.design[1:] for part in sums.components) - self.prior_precision * given.slopes.T
        by_logits = sums.sizes - sums.sizes.sum() * given.weights
        pairs = zip(given.covariances, sums.components, strict=True)
        by_covariances = [covariance.slope(part.gradient) for covariance, part in pairs]
        return np.concatenate([by_means.ravel(), by_slopes.ravel(), by_logits, *by_covariances])

    def metric(self) -> MixtureMetric:
        """The inverse Fisher information at rates and responsibilities as they are."""
        shares, design = self.posteriors.responsibilities, self.posteriors.observations.design[:, 1:]
        sizes = np.maximum(self.sums.sizes, LEAST_SIZE)
        spreads = []
        for k, part in enumerate(self.posteriors.components):
            rates = np.maximum(shares[:, k] @ part.curvature / sizes[k], LEAST_RATE)
            spreads.append(self.parameters.covariances[k].dense + np.diag(1 / rates))
        centers = shares.T @ design / sizes[:, None]
        within = design.T @ design - (centers * sizes[:, None]).T @ centers
        within += self.prior_precision * np.eye(len(within))
        pooled = np.linalg.inv(np.einsum("k,kab->ab", sizes / sizes.sum(), np.linalg.inv(np.stack(spreads))))
        inverse = np.linalg.pinv(within, hermitian=True)
        return MixtureMetric(self, spreads, np.maximum(sizes, 1.0), centers, inverse, 0.5 * (pooled + pooled.T))

    def maximize_given_posteriors(self) -> None:
        """Step of expectation maximisation in weights, means and covariances; coefficients stay."""
        given, sums = self.parameters, self.sums
        sizes = np.maximum(sums.sizes, LEAST_SIZE)
        given.weights = sizes / sizes.sum()
        self.logits = np.log(given.weights)
        for k, (covariance, part) in enumerate(zip(given.covariances, sums.components, strict=True)):
            if sums.sizes[k] <= LEAST_SIZE:
                continue
            prior = covariance.dense
            away = prior @ part.design[0] / sizes[k]
            given.means[k] += away
            moment = prior + prior @ part.gradient @ prior / sizes[k] - np.outer(away, away)
            with suppress(ValueError):  # of a component of one cell there may be rounding alone: it stays as it is
                covariance.update(0.5 * (moment + moment.T) + LEAST_VARIANCE * np.eye(len(prior)))


@dataclass(frozen=True)
class MixtureMetric:
    """Inverse Fisher information of the parameters of a mixture whose components are known."""

    profile: MixtureProfile
    spreads: list[Array]  # P_k, (p, p) each
    sizes: Array  # n_k, (K,)
    centers: Array  # means of the design in each component, (K, d − 1)
    inverse_within: Array  # of the scatter of the design within components, (d − 1, d − 1)
    pooled: Array  # (Σ_k n_k/n P_k⁻¹)⁻¹, (p, p)

    def __call__(self, slope: Array) -> Array:
        """Times a slope by the point.

        Means at the average design of a component, rather than at 0, are independent of the coefficients.
        """
        means, slopes, logits, covariances = self.profile.parts(slope)
        moved = self.inverse_within @ (slopes - self.centers.T @ means) @ self.pooled
        by_means = np.stack([mean @ spread for mean, spread in zip(means, self.spreads, strict=True)])
        by_means = by_means / self.sizes[:, None] - self.centers @ moved
        weights = np.maximum(self.profile.parameters.weights * self.sizes.sum(), 1.0)
        parts = [
            covariance.precondition(part, spread) / (2 * size)
            for covariance, part, spread, size in zip(
                self.profile.parameters.covariances, covariances, self.spreads, self.sizes, strict=True
            )
        ]
        return np.concatenate([by_means.ravel(), moved.ravel(), logits / weights, *parts])
