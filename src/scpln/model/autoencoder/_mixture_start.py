"""Where the components of a mixture prior start, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture as SklearnMixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.module import GaussianPosterior

#: Numbers of components that are compared where the user gives none; one cell of so many judges them.
NUMBERS, _HELD_OUT = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48), 5
#: Numbers that may be worse than the best before the search ends.
_PATIENCE = 4
#: Weight of the identity in the covariance of a component, in cells, and starts of k-means.
_PSEUDO_CELLS, _STARTS = 5, 10


@dataclass(frozen=True)
class Components:
    """Means (K, q), covariances (K, q, q) and weights (K,) of Gaussian components."""

    loc: NDArray[np.float64]
    covariance: NDArray[np.float64]
    weights: NDArray[np.float64]


def start_components(
    gaussian: GaussianPosterior, n_components: int, labels: NDArray[np.int64] | None, *, seed: int
) -> Components:
    """Components from k-means on posterior means; component k of a label k is that of its cells.

    Means of labelled cells stand for their labels' components from the outset; the others are placed by k-means on the
    cells without a label, and on all cells if these are fewer than the components left.

    Parameters
    ----------
    gaussian
        Posteriors of n cells.
    n_components
        Components K.
    labels
        Code of each cell's label (n,), −1 where it is not known.
    seed
        Of k-means.
    """
    mean = gaussian.mean
    n, q = mean.shape
    known = np.full(n, -1) if labels is None else labels
    taken = np.unique(known[known >= 0])
    centers = np.zeros((n_components, q))
    for k in taken:
        centers[k] = mean[known == k].mean(0)
    rest = np.setdiff1d(np.arange(n_components), taken)
    if len(rest):
        pool = mean[known < 0] if (known < 0).sum() >= len(rest) else mean
        found = min(len(rest), len(np.unique(pool, axis=0)))
        centers[rest] = np.random.default_rng(seed).normal(size=(len(rest), q))  # more components than cells
        centers[rest[:found]] = KMeans(found, n_init=_STARTS, random_state=seed).fit(pool).cluster_centers_
    nearest = ((centers**2).sum(1) - 2 * mean @ centers.T).argmin(1)
    nearest = np.where(known >= 0, known, nearest)
    covariances = np.empty((n_components, q, q))
    for k in range(n_components):
        own = np.flatnonzero(nearest == k)
        spread = mean[own] - centers[k]
        within = gaussian[own].covariance.sum(0) if len(own) else 0.0
        covariances[k] = (spread.T @ spread + within + _PSEUDO_CELLS * np.eye(q)) / (len(own) + _PSEUDO_CELLS)
    sizes = np.bincount(nearest, minlength=n_components) + 1.0
    return Components(centers, covariances, sizes / sizes.sum())


def choose_n_components(gaussian: GaussianPosterior, *, full: bool, seed: int) -> int:
    r"""Smallest number of components whose held-out bound is within one standard error of the best.

    With encoder and decoder as they are, the number of components changes the bound only by :math:`E_q[\log p(z)]`. A
    mixture is fitted to draws of four fifths of the cells' posteriors, and this mean taken over the other cells: more
    components than the data call for buy little. Numbers are tried until four have not been better than the best.
    """
    n = len(gaussian)
    order = np.random.default_rng(seed).permutation(n)
    held_out, rest = order[: n // _HELD_OUT], order[n // _HELD_OUT :]
    draws = gaussian.sample(1, seed=seed)[0]
    scores: dict[int, NDArray[np.float64]] = {}
    best = 1
    for k in NUMBERS:
        if len(held_out) < 2 or k > len(rest) // 2 or NUMBERS.index(k) - NUMBERS.index(best) > _PATIENCE:
            break
        mixture = SklearnMixture(k, covariance_type="full" if full else "diag", reg_covar=1e-3, random_state=seed)
        scores[k] = mixture.fit(draws[rest]).score_samples(draws[held_out])
        best = max(scores, key=lambda number: scores[number].mean())
    for k, values in scores.items():
        loss = scores[best] - values
        if loss.mean() <= loss.std() / np.sqrt(len(loss)):
            return k
    return 1
