"""Gaussian components of a mixture, and what cells say under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._sites import Sites

#: Numbers in memory at a time for the covariances of pairs of a cell and a component.
_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Components:
    """Gaussian components N(μ_k, Σ_k) of a mixture with weights π.

    Parameters
    ----------
    loc
        Means μ, (K, q).
    covariance
        Covariances Σ, (K, q, q).
    weights
        Weights π, (K,), which add up to 1.
    """

    loc: NDArray[np.float64]
    covariance: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return len(self.weights)

    def select(self, components: NDArray[np.intp]) -> Components:
        """Some of the components, or all in another order; their weights add up to 1 again."""
        weights = self.weights[components]
        return Components(self.loc[components], self.covariance[components], weights / weights.sum())

    def rotated(self, axes: NDArray[np.float64]) -> Components:
        """The same with the latent space rotated, z → z W."""
        return Components(self.loc @ axes, axes.T @ self.covariance @ axes, self.weights)


@dataclass(frozen=True)
class Moments:
    """Sums over cells of what the components' parameters follow from, for each component.

    Parameters
    ----------
    size
        Σ_i r_ik, (K,).
    first, second
        Σ_i r_ik E[z | i, k], (K, q), and Σ_i r_ik E[z zᵀ | i, k], (K, q, q).
    """

    size: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


@dataclass(frozen=True)
class Expectation:
    """Result of an expectation step.

    Parameters
    ----------
    log_joint
        log π_k + log ∫ N(z; μ_k, Σ_k) ℓ_i(z) dz, (n, K), in nats; −inf for pairs that were left out.
    moments
        Sums over cells.
    """

    log_joint: NDArray[np.float64]
    moments: Moments

    @property
    def log_likelihood(self) -> NDArray[np.float64]:
        """Log-marginal of each cell, (n,), in nats."""
        return logsumexp(self.log_joint, axis=1)

    @property
    def responsibilities(self) -> NDArray[np.float64]:
        """Probabilities of the components given the cell, (n, K)."""
        return np.exp(self.log_joint - self.log_likelihood[:, None])


def conditional(
    sites: Sites, components: Components, k: int, cells: NDArray[np.intp] | slice = slice(None)
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    r"""What some cells say under component k, exactly.

    With :math:`\Lambda = \Sigma_k^{-1}`, P the precision of a site and :math:`A = P + \Lambda`, the integral over
    :math:`z = m + u` is that of :math:`\exp(m \cdot u - \frac12 u^T P u)` under :math:`N(u; \mu_k - m, \Sigma_k)`.

    Returns
    -------
    Log-marginals :math:`\log \int N(z; \mu_k, \Sigma_k) \ell_i(z) dz` (n,), and means (n, q) and covariances
    (q, q, n) of :math:`p(z \mid i, k)`.
    """
    mean = sites.mean[cells]
    inverse = np.array(components.covariance[k])[:, :, None]
    log_det = -linalg.invert(inverse)[0]
    inverse = inverse[:, :, 0]
    covariance = sites.precision[:, :, cells] + inverse[:, :, None]
    log_det_posterior = -linalg.invert(covariance)
    away = components.loc[k] - mean
    pull = away @ inverse
    right = mean + pull
    move = linalg.multiply(covariance, right)
    squares = np.einsum("nq,nq->n", move, right) - np.einsum("nq,nq->n", pull, away)
    return sites.constant[cells] + 0.5 * (log_det + log_det_posterior + squares), mean + move, covariance


def expect(
    sites: Sites,
    components: Components,
    *,
    known: NDArray[np.int64] | None = None,
    active: NDArray[np.bool_] | None = None,
) -> Expectation:
    """Expectation step: joint log-marginals of cells and components, and the moments of the posteriors.

    Parameters
    ----------
    sites
        Likelihoods of n cells.
    components
        K components.
    known
        Component of each cell (n,), −1 where it is not known.
    active
        Pairs (n, K) that are looked at; by default all.
    """
    (n, q), k = sites.mean.shape, components.n_components
    allowed = np.ones((n, k), bool) if active is None else active
    if known is not None:
        allowed = allowed & ((known[:, None] < 0) | (known[:, None] == np.arange(k)))
    with np.errstate(divide="ignore"):
        log_weights = np.log(components.weights)
    log_joint = np.full((n, k), -np.inf)
    size, first, second = np.zeros(k), np.zeros((k, q)), np.zeros((k, q, q))
    width = max(1, _ENTRIES // (k * q * q))
    for start in range(0, n, width):
        found = {}
        for component in range(k):
            cells = start + np.flatnonzero(allowed[start : start + width, component])
            if len(cells):
                values, means, covariances = conditional(sites, components, component, cells)
                log_joint[cells, component] = values + log_weights[component]
                found[component] = cells, means, covariances
        total = logsumexp(log_joint[start : start + width], axis=1)
        for component, (cells, means, covariances) in found.items():
            r = np.exp(log_joint[cells, component] - total[cells - start])
            size[component] += r.sum()
            first[component] += r @ means
            second[component] += covariances @ r + (means * r[:, None]).T @ means
    return Expectation(log_joint, Moments(size, first, second))
