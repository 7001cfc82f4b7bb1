"""How well a latent space agrees with known labels, and how well it mixes batches."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from autoencoder_data import Split
    from numpy.typing import ArrayLike, NDArray

RESOLUTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0)
NEIGHBOURS = 15


def score(latent: NDArray[np.float64], cells: Split) -> dict[str, Any]:
    """Every score of a latent space (n × q), of held-out and training cells together."""
    from sklearn.metrics import silhouette_score

    return {
        **_leiden(latent, cells),
        "kmeans": agreement(_kmeans(latent, cells), cells),
        "silhouette": float(silhouette_score(latent[cells.known], cells.labels)),
        "mixing": _mixing(latent, cells),
    }


def same_label(latent: NDArray[np.float64], cells: Split) -> NDArray[np.float64]:
    """Share of each cell's nearest neighbours that have its label, among the cells that have a known one."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(latent[cells.known]).kneighbors(return_distance=False)
    return (cells.labels[near] == cells.labels[:, None]).mean(1)


def agreement(clusters: ArrayLike, cells: Split) -> dict[str, Any]:
    """ARI and NMI of clusters with the known labels, over the cells that have one."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = np.asarray(clusters)[cells.known]
    return {
        "ari": float(adjusted_rand_score(cells.labels, found)),
        "nmi": float(normalized_mutual_info_score(cells.labels, found)),
        "n_clusters": len(np.unique(found)),
    }


def _leiden(latent: NDArray[np.float64], cells: Split) -> dict[str, Any]:
    """Leiden at every resolution, and the one with the highest ARI."""
    import anndata as ad
    import scanpy as sc
    from sklearn.neighbors import KNeighborsTransformer

    space = ad.AnnData(np.asarray(latent, dtype=np.float32))
    exact = KNeighborsTransformer(n_neighbors=NEIGHBOURS)  # scanpy's own choice depends on the number of cells
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.neighbors(space, use_rep="X", transformer=exact, random_state=cells.seed)
        found = []
        for resolution in RESOLUTIONS:
            sc.tl.leiden(
                space,
                resolution=resolution,
                flavor="igraph",
                n_iterations=2,
                directed=False,
                random_state=cells.seed,
            )
            found.append({"resolution": resolution, **agreement(space.obs["leiden"], cells)})
    return {"leiden": max(found, key=lambda one: one["ari"]), "leiden_all": found}


def _kmeans(latent: NDArray[np.float64], cells: Split) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans

    return KMeans(cells.n_labels, n_init=10, random_state=cells.seed).fit_predict(latent)


def _mixing(latent: NDArray[np.float64], cells: Split) -> float | None:
    """Entropy of batches among a cell's neighbours, as a share of that among all cells: 1 is fully mixed."""
    from scipy.stats import entropy
    from sklearn.neighbors import NearestNeighbors

    if cells.batch_key is None:
        return None
    batches, codes = np.unique(cells.cells.obs[cells.batch_key].astype(str), return_inverse=True)
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(latent).kneighbors(return_distance=False)
    counts = np.stack([(codes[near] == k).sum(1) for k in range(len(batches))], 1)
    return float(entropy(counts, axis=1).mean() / entropy(np.bincount(codes)))
