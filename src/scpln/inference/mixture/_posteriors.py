"""Posteriors of cells under a mixture prior: for each component, the optimal Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp, softmax

from scpln.core import _linalg as linalg
from scpln.inference._gaussians import gaussian_elbo, infer_gaussians
from scpln.module import most_probable

from ._components import Components, conditional, expect
from ._sites import Sites

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.module import Likelihood

#: Responsibility below which a cell has no posterior for a component.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class MixturePosteriors:
    r"""Posteriors q(k) q(z | k) of n cells, with a Gaussian for each of their M most probable components.

    Parameters
    ----------
    probabilities
        q(k), (n, K).
    mean, covariance
        Means (n, M, q) and packed covariances (n, M, q(q+1)/2) of q(z | k), for the components in the order of
        `scpln.module.most_probable`.
    bound
        Bound of each cell, :math:`\log \sum_k \pi_k e^{\text{ELBO}_{ik}}` over these components, nats, (n,).
    """

    probabilities: NDArray[np.float32]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    bound: NDArray[np.float64]

    @property
    def weights(self) -> NDArray[np.float64]:
        """Probabilities of the M components, which add up to 1, (n, M)."""
        found = np.take_along_axis(self.probabilities, most_probable(self.probabilities), axis=1).astype(np.float64)
        weights: NDArray[np.float64] = found / found.sum(1, keepdims=True)
        return weights


def infer_mixture(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    likelihood: Likelihood,
    prior: Components,
    *,
    sites: Sites | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
    on_stuck: Callable[[NDArray[np.intp], int], None] | None = None,
) -> MixturePosteriors:
    r"""Optimal posteriors :math:`q(k) q(z \mid k)` of cells, with B and C fixed.

    Under component k, :math:`z = \mu_k + L_k u` with u from N(0, I) and :math:`L_k L_k^T = \Sigma_k`: the log-rates are those of
    a PLN-PCA with loadings C L_k and intercepts C μ_k more, whose solver finds q(u), and whose bound is :math:`\text{ELBO}_{ik}`.
    The best probabilities are then :math:`q(k) \propto \pi_k e^{\text{ELBO}_{ik}}`.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    coefficients, loadings
        B (p, d) and C (p, q).
    likelihood
        Distribution of the counts given their log-rates.
    prior
        The mixture.
    sites
        What the cells' counts say, from posteriors under N(0, I); found anew when None. They choose the components that are
        looked at.
    batch_size, n_threads
        As in `infer`.
    on_stuck
        Called once with the positions of cells that did not converge and the number of all.
    """
    stuck: list[NDArray[np.intp]] = []
    settings = {"batch_size": batch_size, "n_threads": n_threads}

    def remember(positions: NDArray[np.intp], _n: int, cells: NDArray[np.intp]) -> None:
        stuck.append(cells[positions])

    everything = np.arange(data.n_cells)
    if sites is None:
        found = infer_gaussians(
            data, coefficients, loadings, likelihood, on_stuck=lambda at, n: remember(at, n, everything), **settings
        )
        sites = Sites.of(*found)
    guess = expect(sites, prior).responsibilities
    slots = most_probable(guess)
    (n, q), m = sites.mean.shape, slots.shape[1]
    value, mean, covariance = np.full((n, m), -np.inf), np.empty((n, m, q)), np.empty((n, m, q * (q + 1) // 2))
    for k in range(prior.n_components):
        cells, slot = np.nonzero(slots == k)
        if len(cells) == 0:
            continue
        _, mean[cells, slot], full = conditional(sites, prior, k, cells)
        covariance[cells, slot] = linalg.pack(full)
        wanted = guess[cells, k] > NEGLIGIBLE
        cells, slot = cells[wanted], slot[wanted]
        if len(cells) == 0:
            continue
        factor = np.linalg.cholesky(prior.covariance[k])
        part = data if len(cells) == n else data.subset(cells)
        part = replace(part, design=np.column_stack([part.design, np.ones(len(cells))]))
        b, c = np.column_stack([coefficients, loadings @ prior.loc[k]]), loadings @ factor
        at, packed = infer_gaussians(
            part, b, c, likelihood, on_stuck=lambda at, n, cells=cells: remember(at, n, cells), **settings
        )
        value[cells, slot] = gaussian_elbo(part, b, c, likelihood, at, packed, **settings) + np.log(prior.weights[k])
        mean[cells, slot] = prior.loc[k] + at @ factor.T
        covariance[cells, slot] = packed @ linalg.congruence(factor)
    if on_stuck is not None:
        on_stuck(np.unique(np.concatenate([*stuck, np.empty(0, np.intp)])), n)
    ordered = _ordered(softmax(value, axis=1), slots, mean, covariance, prior.n_components)
    return MixturePosteriors(*ordered, logsumexp(value, axis=1))


def _ordered(
    weights: NDArray[np.float64],
    slots: NDArray[np.intp],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    n_components: int,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """With the most probable component first, in the order that `most_probable` finds in single precision."""
    n = len(slots)
    probabilities = np.zeros((n, n_components), np.float32)
    np.put_along_axis(probabilities, slots, weights.astype(np.float32), axis=1)
    order = most_probable(probabilities)
    found = slots[:, None, :] == order[:, :, None]  # (n, M, M): where each is
    missing = ~found.any(2)
    at = found.argmax(2)
    if missing.any():  # components of probability 0 that tie with those left out: any Gaussian will do
        at[missing] = 0
    rows = np.arange(n)[:, None]
    return probabilities, mean[rows, at], covariance[rows, at]
