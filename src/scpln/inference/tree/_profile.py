"""The bound as a function of coefficients and covariance of a tree, with a prior of the covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._profile import LEAST_RATE, Profile

if TYPE_CHECKING:
    from scpln.core import Array
    from scpln.module.covariances import Chain

    from ._posteriors import TreePosteriors


class LevelProfile(Profile):
    """As `Profile`, of coordinates without correlations, with one variance in each level."""

    covariance: Chain

    def update_covariance(self, moment: Array) -> None:
        """Mean variances of levels."""
        variances = np.diagonal(moment)
        each = [np.full(level.stop - level.start, variances[level].mean()) for level in self.covariance.levels]
        self.covariance.update(np.diag(np.concatenate(each)))


@dataclass
class TreeProfile(Profile):
    r"""As `Profile`, with the conjugate prior of the covariance.

    .. math:: \log p(\Sigma) = -\tfrac{\nu}{2} [\log\det\Sigma + \text{tr}(\Sigma^{-1} D)] + \text{const},

    what ν more samples would say whose second moment is a diagonal D, with one variance for each level. It keeps Σ away from the singular estimates of
    few samples, and does not depend on the order of siblings.

    Attributes
    ----------
    shrinkage
        ν.
    target
        Diagonal of D, (p,).
    """

    shrinkage: float
    target: Array

    posteriors: TreePosteriors

    @property
    def log_prior(self) -> float:
        """Of coefficients and covariance, up to a constant."""
        if not self.shrinkage:
            return super().log_prior
        fit = self.covariance.log_det + float(np.diagonal(self.covariance.precision) @ self.target)
        return super().log_prior - 0.5 * self.shrinkage * fit

    @property
    def slope(self) -> Array:
        """By the point."""
        result = super().slope
        if self.shrinkage:
            precision = self.covariance.precision
            of_prior = self.shrinkage * ((precision * self.target) @ precision - precision)
            start = self.coefficients.size
            result[start : start + len(self.covariance.coordinates)] += self.covariance.slope(of_prior)
        return result

    @property
    def spread(self) -> Array:
        """Covariance of what counts say of coordinates, at the curvatures as they are, (p, p)."""
        posteriors = self.posteriors
        weight = posteriors.curvature.mean(0, keepdims=True)
        curvature = posteriors.layout.diagonal(posteriors.layout.of_weights(weight, posteriors.least))[0]
        return self.covariance.dense + np.diag(1 / np.maximum(curvature, LEAST_RATE))

    def update_covariance(self, moment: Array) -> None:
        """Maximise over Σ, given the mean second moment of residuals."""
        n = len(self.posteriors.mean)
        self.covariance.update((n * moment + self.shrinkage * np.diag(self.target)) / (n + self.shrinkage))
