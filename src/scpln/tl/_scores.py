"""How well clusters and latent states agree with what is known of the cells, through scikit-learn and scib-metrics."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("scpln")

#: Labels from which on comparing with them is announced.
_MANY_LABELS = 100
#: Cells that silhouettes are computed from, at most: their time grows with the square.
MOST_CELLS = 10_000
#: Starts of k-means.
_STARTS = 10
#: Neighbours of each cell in the scores of scib-metrics, as its own benchmark has them.
_NEIGHBORS = {"lisi": 90, "kbet": 50, "graph": 15}


@dataclass(frozen=True)
class Scoring:
    """What is known of the cells, by columns of ``obs``, and what to compute from that.

    Parameters
    ----------
    labels_key, batch_key, cluster_key
        Columns of known labels, batches, and clusters to compare with the labels.
    scib_metrics
        Whether to add scores of scib-metrics.
    seed
        Of k-means, and of the choice of cells where there are many.
    """

    labels_key: str | None
    batch_key: str | None
    cluster_key: str | None
    scib_metrics: bool
    seed: int

    @property
    def is_wanted(self) -> bool:
        """Whether there is something to compare with."""
        return self.labels_key is not None or self.batch_key is not None

    def check(self, obs: pd.DataFrame) -> None:
        """Refuse columns that are not there, and scores that lack theirs."""
        from scpln.data import Coding, check_categories, get_column

        for argument in ("labels_key", "batch_key", "cluster_key"):
            key = getattr(self, argument)
            if key is not None:
                get_column(obs, key, argument)
        for argument, value in {"cluster_key": self.cluster_key, "scib_metrics": self.scib_metrics}.items():
            if value and self.labels_key is None:
                msg = f"{argument}={value!r} needs labels to compare with: pass labels_key=..."
                raise ValueError(msg)
        if self.labels_key is not None:
            labels = Coding.of(obs[self.labels_key])
            if not labels.categories:
                msg = f"adata.obs[{self.labels_key!r}] (labels_key) has no labels: all values are missing."
                raise ValueError(msg)
            check_categories(labels, self.labels_key, "labels_key")
            if len(labels.categories) > _MANY_LABELS:
                logger.info(
                    "adata.obs[%r] (labels_key) has %s labels: k-means of as many clusters may take minutes.",
                    self.labels_key,
                    f"{len(labels.categories):,}",
                )
        if self.scib_metrics:
            _import_scib()

    def of(
        self, obs: pd.DataFrame, latent: NDArray | None, clusters: pd.Series | None
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Scores of a latent space (n × q) and clusters, if there are, and notes on what they are of."""
        labels = None if self.labels_key is None else obs[self.labels_key]
        batches = None if self.batch_key is None else obs[self.batch_key]
        scores: dict[str, float] = {}
        notes: dict[str, str] = {}
        if labels is not None:
            described = "of the components"
            if self.cluster_key is not None:
                clusters, described = obs[self.cluster_key], f"of obs[{self.cluster_key!r}]"
            elif clusters is None and latent is not None:
                clusters = kmeans_clusters(latent, labels, seed=self.seed)
                described = f"of k-means, {clusters.nunique()} clusters"
            if clusters is not None:
                agreement = partition_agreement(labels, clusters)
                scores |= agreement
                notes |= dict.fromkeys(agreement, described)
        if labels is not None and latent is not None:
            scores |= label_separation(latent, labels, seed=self.seed)
        if batches is not None and latent is not None:
            scores |= batch_mixing(latent, batches, labels, seed=self.seed)
        if self.scib_metrics and labels is not None and latent is not None:
            scores |= scib_scores(latent, labels, batches)
        return scores, notes


def partition_agreement(labels: pd.Series, clusters: pd.Series) -> dict[str, float]:
    """Agreement of clusters with known labels: 1 for the same partition; 0 for one as good as chance (``ari``, ``ami``).

    Cells without a label, or without a cluster, do not count.

    Examples
    --------
    >>> partition_agreement(pd.Series(["a", "a", "b", None]), pd.Series([1, 1, 0, 0]))
    {'ari': 1.0, 'ami': 1.0, 'nmi': 1.0}
    """
    from sklearn import metrics

    known = (labels.notna() & clusters.notna().to_numpy()).to_numpy()
    pair = labels[known].astype(str).to_numpy(), clusters[known].astype(str).to_numpy()
    return {
        "ari": float(metrics.adjusted_rand_score(*pair)),
        "ami": float(metrics.adjusted_mutual_info_score(*pair)),
        "nmi": float(metrics.normalized_mutual_info_score(*pair)),
    }


def kmeans_clusters(latent: NDArray, labels: pd.Series, *, seed: int) -> pd.Series:
    """Clusters of latent states (n × q), as many as there are labels."""
    from sklearn.cluster import KMeans

    n_clusters = min(labels.nunique(), len(np.unique(latent, axis=0)))
    fitted = KMeans(n_clusters, n_init=_STARTS, random_state=seed).fit(latent)
    return pd.Series(fitted.labels_.astype(str), index=labels.index)


def label_separation(latent: NDArray, labels: pd.Series, *, seed: int) -> dict[str, float]:
    """Mean silhouette of labels in latent space, from −1 to 1: the larger, the further apart are cells of different labels."""
    from sklearn.metrics import silhouette_score

    cells = _some(labels.notna().to_numpy(), seed)
    values = labels.iloc[cells].astype(str).to_numpy()
    if not 1 < len(np.unique(values)) < len(values):
        return {"silhouette": np.nan}
    return {"silhouette": float(silhouette_score(latent[cells], values))}


def batch_mixing(latent: NDArray, batches: pd.Series, labels: pd.Series | None, *, seed: int) -> dict[str, float]:
    """How well batches mix within labels, from 0 to 1: one minus the mean absolute silhouette of batches.

    As scib's "batch ASW" [1]_: the mean over cells of a label, and then over labels; those in one batch only do not count.

    References
    ----------
    .. [1] M. Luecken et al. (2022), Benchmarking atlas-level data integration in single-cell genomics, Nature Methods
       19: 41-50.
    """
    from sklearn.metrics import silhouette_samples

    known = batches.notna() if labels is None else batches.notna() & labels.notna().to_numpy()
    cells = _some(known.to_numpy(), seed)
    of_batch = batches.iloc[cells].astype(str).to_numpy()
    of_label = np.zeros(len(cells), dtype=int) if labels is None else labels.iloc[cells].astype(str).to_numpy()
    scores = []
    for label in np.unique(of_label):
        own = of_label == label
        if 1 < len(np.unique(of_batch[own])) < own.sum():
            scores.append(np.mean(1 - np.abs(silhouette_samples(latent[cells][own], of_batch[own]))))
    return {"batch_silhouette": float(np.mean(scores)) if scores else np.nan}


def scib_scores(latent: NDArray, labels: pd.Series, batches: pd.Series | None) -> dict[str, float]:
    """Scores of scib-metrics, from 0 to 1, the larger, the better: of labels, and with batches of how these mix."""
    scib = _import_scib()
    known = (labels.notna() if batches is None else labels.notna() & batches.notna().to_numpy()).to_numpy()
    latent, of_label = np.asarray(latent[known], dtype=np.float32), labels[known].astype(str).to_numpy()
    neighbors = _neighbors(latent)
    scores: dict[str, Any] = {
        "scib_clisi": scib.clisi_knn(neighbors("lisi"), of_label),
        "scib_graph_connectivity": scib.graph_connectivity(neighbors("graph"), of_label),
        "scib_silhouette_label": scib.silhouette_label(latent, of_label),
    }
    if batches is not None:
        of_batch = batches[known].astype(str).to_numpy()
        scores |= {
            "scib_isolated_labels": scib.isolated_labels(latent, of_label, of_batch),
            "scib_ilisi": scib.ilisi_knn(neighbors("lisi"), of_batch),
            "scib_kbet": scib.kbet_per_label(neighbors("kbet"), of_batch, of_label),
            "scib_bras": scib.bras(latent, of_label, of_batch),
        }
    return {name: float(value) for name, value in scores.items()}


def _import_scib() -> Any:
    try:
        import scib_metrics
    except ImportError as error:
        msg = (
            "scib_metrics=True needs the package scib-metrics, which is not installed: run `pip install scib-metrics`, "
            "or leave it out."
        )
        raise ImportError(msg) from error
    return scib_metrics


def _neighbors(latent: NDArray) -> Any:
    """The nearest neighbours for each kind of score, in scib-metrics' form; each cell is its own first."""
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    most = min(max(_NEIGHBORS.values()), len(latent) - 1)
    distances, indices = NearestNeighbors(n_neighbors=most).fit(latent).kneighbors(latent)
    found = NeighborsResults(indices=indices, distances=distances)
    return lambda kind: found.subset_neighbors(min(_NEIGHBORS[kind], most))


def _some(known: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Positions of the known cells, or of a random 10,000 of them."""
    cells = np.flatnonzero(known)
    if len(cells) <= MOST_CELLS:
        return cells
    return np.sort(np.random.default_rng(seed).choice(cells, MOST_CELLS, replace=False))
