"""The main job, from real counts to clusters, against scanpy's own pipeline."""

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
    assert ours.mean > theirs.mean - 0.03
