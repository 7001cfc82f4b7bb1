"""Starting points: k-means++ of x, k-means of (x, y), and at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ._model import MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._model import ClassifierData

    Floats = NDArray[np.float64]

StartName = Literal["kmeans", "kmeans_labels", "random"]
STARTS: tuple[StartName, ...] = ("kmeans", "kmeans_labels", "random")
#: Iterations of k-means.
_ITERATIONS = 10
#: Of a start's responsibilities, what is shared equally.
_SHARED = 0.1


def start_responsibilities(
    kind: StartName, data: ClassifierData, places: Floats, n_components: int, random: np.random.Generator
) -> Floats:
    """Responsibilities (n × K) to begin with.

    Parameters
    ----------
    kind
        ``"kmeans"``: clusters of x by k-means++; ``"kmeans_labels"``: of x beside the labels; ``"random"``: the nearest of K random rows.
    data
        Rows.
    places
        What distances are measured in (n × d), on one scale.
    n_components
        K.
    random
        Generator.
    """
    if kind == "kmeans_labels":
        indicators = np.zeros((len(data), data.n_classes))
        known = data.labels != MISSING
        indicators[known, data.labels[known]] = 1
        shares = data.weights[known] @ indicators[known] / max(data.weights[known].sum(), 1e-300)
        indicators[~known] = shares
        places = np.column_stack([places, np.sqrt(places.shape[1] / 2) * indicators])
    if kind == "random":
        centres = places[random.choice(len(data), n_components, replace=False, p=data.weights / data.weights.sum())]
        cluster = _nearest(places, centres)
    else:
        cluster = _k_means(places, data.weights, n_components, random)
    found = np.full((len(data), n_components), _SHARED / n_components)
    found[np.arange(len(data)), cluster] += 1 - _SHARED
    return found


def _k_means(x: Floats, weights: Floats, n_clusters: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Clusters of weighted rows: centres drawn by squared distance (Arthur and Vassilvitskii, 2007), then Lloyd's iterations."""
    centres = np.empty((n_clusters, x.shape[1]))
    distance = np.ones(len(x))
    for k in range(n_clusters):
        share = weights * distance
        if share.sum() <= 0:
            share = weights
        centres[k] = x[random.choice(len(x), p=share / share.sum())]
        from_this = ((x - centres[k]) ** 2).sum(1)
        distance = from_this if k == 0 else np.minimum(distance, from_this)
    cluster = _nearest(x, centres)
    for _ in range(_ITERATIONS):
        for k in range(n_clusters):
            chosen = cluster == k
            if chosen.any():
                centres[k] = weights[chosen] @ x[chosen] / weights[chosen].sum()
        new = _nearest(x, centres)
        if (new == cluster).all():
            break
        cluster = new
    return cluster


def _nearest(x: Floats, centres: Floats) -> NDArray[np.intp]:
    return ((centres**2).sum(1) - 2 * x @ centres.T).argmin(1)
