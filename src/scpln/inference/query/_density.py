"""Where a reference's cells lie in the latent space: what the states of new cells are expected to be like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import logsumexp
from sklearn.cluster import KMeans

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from scpln.core import Array

#: Most components, and cells that each of them is worth at least.
MOST_COMPONENTS, CELLS_IN_COMPONENT = 40, 20
#: Steps of the EM algorithm, starts of k-means, and what is added to the weight of a component, in cells.
EM_STEPS, STARTS, PSEUDO_CELLS = 30, 3, 1e-3


@dataclass(frozen=True)
class StateDensity:
    r"""Density of a reference's states, :math:`\sum_k w_k N(z; m_k, S)`: small Gaussians of one shape, wherever there are cells.

    Parameters
    ----------
    weights, means
        w (K,) and m (K, q).
    covariance
        S, (q, q).

    Examples
    --------
    >>> import numpy as np
    >>> mean = np.random.default_rng(0).normal(size=(200, 2)) + np.repeat([[-5.0, 0.0], [5.0, 0.0]], 100, axis=0)
    >>> density = StateDensity.of(mean, np.tile([0.1, 0.0, 0.1], (200, 1)))
    >>> density.weights.shape, bool((abs(density.means[:, 0]) > 2).all())
    ((10,), True)
    """

    weights: Array
    means: Array
    covariance: Array

    @classmethod
    def standard_normal(cls, n_latent: int) -> Self:
        """The prior N(0, I)."""
        return cls(np.ones(1), np.zeros((1, n_latent)), np.eye(n_latent))

    @classmethod
    def of(cls, mean: Array, covariance: Array, *, seed: int = 0) -> Self:
        """Density of states with posterior means (n, q) and packed covariances (n, q(q+1)/2).

        By expectation maximisation with these as what is not observed, from k-means.
        """
        mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        n, q = mean.shape
        within = linalg.unpack(covariance.mean(0)[None], q)[:, :, 0]
        distinct = len(np.unique(mean, axis=0))
        k = int(np.clip(n // CELLS_IN_COMPONENT, 1, min(MOST_COMPONENTS, distinct)))
        start = KMeans(k, n_init=STARTS, random_state=seed).fit(mean)
        probable = np.eye(k)[start.labels_]
        for _ in range(EM_STEPS):
            sizes = probable.sum(0) + PSEUDO_CELLS
            sums = probable.T @ mean
            means = (sums + PSEUDO_CELLS * start.cluster_centers_) / sizes[:, None]
            crossed = means.T @ sums
            scatter = mean.T @ mean - crossed - crossed.T + (means.T * probable.sum(0)) @ means
            density = cls(sizes / sizes.sum(), means, scatter / n + within)
            probable, _ = density.assign(mean, density.weights)
        return density

    def assign(self, states: Array, weights: Array) -> tuple[Array, Array]:
        r"""Probabilities of the components (n, K) given states (n, q) and weights (K,) or (n, K), and log-densities (n,).

        The latter up to the constant :math:`-\frac12 \log\det 2\pi S`.
        """
        factor = np.linalg.inv(np.linalg.cholesky(self.covariance)).T
        white, means = states @ factor, self.means @ factor
        squares = (white**2).sum(1)[:, None] + (means**2).sum(1) - 2 * white @ means.T
        joint = np.log(np.maximum(weights, np.finfo(float).tiny)) - 0.5 * squares
        total = logsumexp(joint, axis=1)
        return np.exp(joint - total[:, None]), total

    def turned(self, axes: Array, *, diagonal: bool = False) -> Self:
        """The density of z Rᵀ for a rotation R (q, q); with `diagonal`, with what S has on its diagonal there."""
        covariance = axes @ self.covariance @ axes.T
        if diagonal:
            covariance = np.diag(np.diag(covariance))
        return type(self)(self.weights, self.means @ axes.T, covariance)

    def to_lists(self) -> dict[str, Any]:
        """As lists of numbers, for a file."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_lists(cls, lists: dict[str, Any]) -> Self:
        """From what `to_lists` gave."""
        return cls(*(np.array(lists[name], np.float64) for name in ("weights", "means", "covariance")))
