"""Parameters of a mixture in gene space."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.module.covariances import Covariance


@dataclass
class MixtureParameters:
    """Weights, means and covariances of K components of log-rates, and coefficients that they share.

    Parameters
    ----------
    weights
        π, (K,).
    means
        μ, (K, p): log-rates of an average cell of each component, in place of an intercept.
    slopes
        Coefficients of the other columns of the design, (p, d − 1).
    covariances
        Σ of each component.
    """

    weights: Array
    means: Array
    slopes: Array
    covariances: list[Covariance]

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return len(self.weights)

    @property
    def n_parameters(self) -> int:
        """Free numbers: weights, means, coefficients and covariances."""
        free = sum(covariance.n_parameters for covariance in self.covariances)
        return self.n_components - 1 + self.means.size + self.slopes.size + free

    @property
    def coefficients(self) -> Array:
        """B (p, d), whose intercepts are the mean of the components' means by their weights."""
        return np.column_stack([self.weights @ self.means, self.slopes])

    def coefficients_of(self, component: int) -> Array:
        """Coefficients (p, d) of the cells of a component, whose intercepts are its means."""
        return np.column_stack([self.means[component], self.slopes])

    def select(self, components: NDArray[np.intp]) -> MixtureParameters:
        """Some of the components, in the order that is given, with weights that add up to 1."""
        weights = self.weights[components]
        covariances = [copy.deepcopy(self.covariances[k]) for k in components]
        return MixtureParameters(weights / weights.sum(), self.means[components], self.slopes.copy(), covariances)
