"""Where the components of a mixture start: at groups of cells, given or found by k-means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans

from ._components import Components, expect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._em import ComponentPrior
    from ._sites import Sites

#: Starts of k-means.
_STARTS = 10


def standard_components(n_components: int, n_latent: int) -> Components:
    """Components that are all N(0, I), with the same weights."""
    eye = np.tile(np.eye(n_latent), (n_components, 1, 1))
    return Components(np.zeros((n_components, n_latent)), eye, np.full(n_components, 1 / n_components))


def components_of_groups(
    sites: Sites, groups: NDArray[np.int64], n_components: int, prior: ComponentPrior, *, seed: int = 0
) -> Components:
    """Components with the moments of groups of cells, from their posteriors under N(0, I).

    Parameters
    ----------
    sites
        Likelihoods of n cells.
    groups
        Group of each cell (n,), from 0, or −1 for none.
    n_components
        Components K. Those without cells have a random mean, so that they are not all the same.
    prior
        Prior of the components.
    seed
        Of these means.
    """
    some = np.flatnonzero(groups >= 0)
    start = standard_components(n_components, sites.n_latent)
    random = np.random.default_rng(seed).normal(size=start.loc.shape)
    moments = expect(sites[some], start, known=groups[some]).moments
    return prior.maximize(moments, Components(random, start.covariance, start.weights))


def kmeans_groups(mean: NDArray[np.float64], n_groups: int, *, seed: int) -> NDArray[np.int64]:
    """Groups of cells by k-means on their means (n, q): fewer where fewer means differ."""
    found = min(n_groups, len(np.unique(mean, axis=0)))
    return KMeans(found, n_init=_STARTS, random_state=seed).fit_predict(mean).astype(np.int64)


def in_number(mean: NDArray[np.float64], groups: NDArray[np.int64], n_groups: int, *, seed: int) -> NDArray[np.int64]:
    """So many groups, of others: the smallest join those whose mean is nearest, or the largest are split by k-means."""
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    while groups.max() + 1 > n_groups:
        sizes = np.bincount(groups)
        centers = np.stack([mean[groups == g].mean(0) for g in range(len(sizes))])
        smallest = int(sizes.argmin())
        far = ((centers - centers[smallest]) ** 2).sum(1)
        far[smallest] = np.inf
        groups[groups == smallest] = far.argmin()
        groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    while groups.max() + 1 < n_groups:
        own = np.flatnonzero(groups == np.bincount(groups).argmax())
        parts = kmeans_groups(mean[own], 2, seed=seed)
        if parts.max() == 0:
            break
        groups[own[parts == 1]] = groups.max() + 1
    return groups
