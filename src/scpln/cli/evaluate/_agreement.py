"""How well Leiden clusters of a latent space agree with known labels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

RESOLUTIONS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
N_RUNS = 3
"""Leiden runs at each resolution, from different seeds: one run's index is off by some hundredths."""


class Agreement(NamedTuple):
    """Agreement of Leiden clusters with labels: the mean over `RESOLUTIONS`, and that at the best of them.

    By the adjusted Rand index, whose best resolution it is, and by the normalised mutual information.
    """

    ari_mean: float
    ari_best: float
    ari_best_resolution: float
    nmi_mean: float
    nmi_best: float


def label_agreement(latent: np.ndarray, labels: pd.Series, *, seed: int) -> Agreement:
    """Cluster latent states (n × q) and compare with `labels`; cells without a label do not count."""
    import scanpy as sc
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from scpln.cli._neighbors import with_neighbors

    known = labels.notna().to_numpy()

    def agreement(resolution: float, random_state: int) -> tuple[float, float]:
        sc.tl.leiden(aside, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=random_state)
        both = labels[known], aside.obs["leiden"].to_numpy()[known]
        return float(adjusted_rand_score(*both)), float(normalized_mutual_info_score(*both))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aside = with_neighbors(latent, seed=seed)
        runs = [[agreement(r, seed + run) for run in range(N_RUNS)] for r in RESOLUTIONS]
    ari, nmi = np.mean(runs, axis=1).T
    best = int(np.argmax(ari))
    return Agreement(float(ari.mean()), float(ari[best]), RESOLUTIONS[best], float(nmi.mean()), float(nmi[best]))


def holds_counts(matrix: Any) -> bool:
    """Whether all values are whole numbers of 0 or more.

    Examples
    --------
    >>> holds_counts(np.array([[0.0, 3.0]])), holds_counts(np.array([[0.0, 1.5]])), holds_counts(np.array([[-1, 0]]))
    (True, False, False)
    """
    import scipy.sparse as sp

    values = matrix.data if sp.issparse(matrix) else np.asarray(matrix)
    return bool(((values >= 0) & (values == np.floor(values))).all())


def scanpy_pca(
    adata: AnnData, *, layer: str | None, size_factor_key: str | None, n_comps: int, is_count_data: bool = True
) -> np.ndarray:
    """Latent space of scanpy's usual pipeline: counts by depth, log1p, PCA (n × `n_comps`).

    Each cell is scaled to the median depth; depth is the total of its counts, or the given column of ``obs``. Values
    that are not counts go into the PCA as they are.
    """
    import anndata as ad
    import scanpy as sc
    import scipy.sparse as sp

    from scpln.core import compressed

    matrix = adata.X if layer is None else adata.layers[layer]
    n_comps = min(n_comps, min(adata.shape) - 1)
    if not is_count_data:
        aside = ad.AnnData(X=matrix.astype(np.float32))
        sc.pp.pca(aside, n_comps=n_comps)
        return aside.obsm["X_pca"]
    counts = sp.csr_matrix(compressed(matrix) if sp.issparse(matrix) else matrix, dtype=np.float32)
    depth = np.asarray(counts.sum(1)).ravel() if size_factor_key is None else adata.obs[size_factor_key].to_numpy()
    scale = np.median(depth) / np.where(depth > 0, depth, 1)
    aside = ad.AnnData(X=sp.csr_matrix(counts.multiply(scale[:, None])))
    sc.pp.log1p(aside)
    sc.pp.pca(aside, n_comps=n_comps)
    return aside.obsm["X_pca"]
