"""How far cells are from the nearest label, compared with the cells of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cholesky, solve_triangular

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Levels of the quantiles of distances that are kept.
_LEVELS = np.linspace(0, 1, 1001)
#: Part of the mean variance that is added to each.
_RIDGE = 1e-3


@dataclass(frozen=True)
class ClassDistances:
    """Squared Mahalanobis distances min_c (x − μ_c)ᵀ S⁻¹ (x − μ_c), with the covariance S within classes.

    References
    ----------
    K. Lee, K. Lee, H. Lee and J. Shin (2018), A simple unified framework for detecting out-of-distribution samples and adversarial attacks, NeurIPS.

    Attributes
    ----------
    means
        μ, as whitened (C × f).
    whitener
        K with K Kᵀ = S⁻¹ (f × f).
    quantiles
        Of the distances of the training cells.
    """

    means: Floats
    whitener: Floats
    quantiles: Floats

    @classmethod
    def of(cls, features: Floats, codes: NDArray[np.intp], n_classes: int) -> ClassDistances:
        """Of training cells x (n × f) with these labels."""
        n = np.bincount(codes, minlength=n_classes)
        means = np.zeros((n_classes, features.shape[1]))
        np.add.at(means, codes, features)
        means /= np.maximum(n, 1)[:, None]
        within = features - means[codes]
        covariance = within.T @ within / len(features)
        covariance += max(_RIDGE * float(np.trace(covariance)) / len(covariance), 1e-12) * np.eye(len(covariance))
        lower = cholesky(covariance, lower=True)
        whitener = solve_triangular(lower, np.eye(len(lower)), lower=True).T
        found = cls(means @ whitener, whitener, _LEVELS)
        return cls(found.means, whitener, np.quantile(found.distances(features), _LEVELS))

    def distances(self, features: Floats) -> Floats:
        """To the nearest class (n)."""
        white = features @ self.whitener
        squares = (white**2).sum(1)[:, None] - 2 * white @ self.means.T + (self.means**2).sum(1)
        return np.maximum(squares.min(1), 0)

    def novelty(self, features: Floats) -> Floats:
        """Share of the training cells that are nearer to their nearest class (n); beyond all of them, above 1 by the relative excess."""
        distances = self.distances(features)
        farthest = self.quantiles[-1]
        return np.where(
            distances > farthest,
            distances / max(farthest, 1e-300),
            np.interp(distances, self.quantiles, _LEVELS),
        )
