"""Where the components of a mixture start: at groups of cells."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import AgglomerativeClustering, KMeans

from ._parameters import MixtureParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.module.covariances import Covariance

#: Starts of k-means, groups that come of single ones besides, and most cells that are grouped by Ward's method, whose time is quadratic.
KMEANS_STARTS, RANDOM_STARTS, MOST_CELLS = 10, 2, 5000
#: Cells of the average group that each group is given besides its own.
CELLS_OF_ALL = 2.0
#: Variance that each gene has in a group at least.
LEAST_SPREAD = 1e-4


def groupings(states: Array, n_groups: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Groups of cells (n,) from their log-rates (n, p): by k-means, as they are and in standard deviations, and Ward's method.

    Cells are taken in the order of their distance from the mean, so that theirs in the data does not matter.
    """
    centered = states - states.mean(0)
    order = np.argsort((centered**2).sum(1), kind="stable")
    found = min(n_groups, len(np.unique(centered, axis=0)))  # fewer where fewer cells differ
    methods: list[tuple[Any, Array]] = []
    for values in (centered, centered / np.maximum(centered.std(0), LEAST_SPREAD)):
        methods.append((KMeans(found, n_init=KMEANS_STARTS, random_state=seed), values))
        if len(values) <= MOST_CELLS:
            methods.append((AgglomerativeClustering(found), values))
    for number in range(RANDOM_STARTS):
        methods.append((KMeans(found, n_init=1, random_state=seed + 1 + number), centered))
    for method, values in methods:
        groups = np.empty(len(order), np.intp)
        groups[order] = method.fit_predict(values[order]) if len(order) > 1 else 0
        yield groups


def of_groups(
    states: Array, variances: Array, groups: NDArray[np.intp], n_groups: int, slopes: Array, covariance: Covariance
) -> MixtureParameters:
    """Components with the moments of groups of cells, from means and variances of their log-rates beyond the design, (n, p) each.

    One without cells has those of all.
    """
    sizes = np.bincount(groups, minlength=n_groups).astype(np.float64)
    means = np.stack([states[groups == k].mean(0) if sizes[k] else states.mean(0) for k in range(n_groups)])
    away = states - means[groups]
    pooled = away.T @ away / len(states) + np.diag(variances.mean(0) + LEAST_SPREAD)
    covariances = []
    for k in range(n_groups):
        own = groups == k
        scatter = away[own].T @ away[own] + np.diag(variances[own].sum(0))
        family = copy.deepcopy(covariance)
        family.update((scatter + CELLS_OF_ALL * pooled) / (sizes[k] + CELLS_OF_ALL))
        covariances.append(family)
    weights = (sizes + 1) / (sizes + 1).sum()
    return MixtureParameters(weights, means, slopes.copy(), covariances)
