"""The main job, from real counts to clusters, against scanpy's own pipeline."""

import anndata as ad
import numpy as np
import scanpy as sc

import scpln
from scpln.cli.evaluate._agreement import label_agreement, scanpy_pca


def test_clusters_agree_with_labels_as_well_as_those_of_pca():
    adata = scpln.datasets.pbmc68k_reduced()
    scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=10)
    sc.pp.neighbors(adata, use_rep="X_plnpca")
    sc.tl.umap(adata, maxiter=20)
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    assert adata.obsm["X_umap"].shape == (700, 2)
    assert adata.obs["leiden"].nunique() > 4

    pca = scanpy_pca(adata, layer="counts", size_factor_key="n_counts", n_comps=10)
    ours = label_agreement(adata.obsm["X_plnpca"], adata.obs["bulk_labels"], seed=0)
    theirs = label_agreement(pca, adata.obs["bulk_labels"], seed=0)
    assert ours.ari_mean > theirs.ari_mean - 0.03


def test_scanpy_finds_neighbours_of_many_cells_and_maps_new_ones():
    """From 8,192 cells on, scanpy leaves the neighbours to pynndescent, and `ingest` does so with any number."""
    rng = np.random.default_rng(0)
    many = ad.AnnData(obsm={"X_plnpca": rng.normal(size=(9000, 5)).astype(np.float32)})
    sc.pp.neighbors(many, use_rep="X_plnpca")
    assert (np.diff(many.obsp["distances"].indptr) >= 14).all()

    reference = scpln.datasets.pbmc68k_reduced()[:300].copy()
    reference.obsm["X_pca"] = rng.normal(size=(300, 5)).astype(np.float32)
    query = reference[:40].copy()
    sc.pp.neighbors(reference, use_rep="X_pca")
    sc.tl.umap(reference, maxiter=5)
    query.obsm["X_pca"] += 0.01
    sc.tl.ingest(query, reference, obs="bulk_labels", embedding_method="umap")
    assert query.obsm["X_umap"].shape == (40, 2)
