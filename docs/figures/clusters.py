"""Clusters of two kinds on the same cells: Leiden on the latent states, and the components of a mixture with their certainty."""

import matplotlib.pyplot as plt
import scanpy as sc

import scpln

adata = scpln.datasets.pbmc68k_reduced()
scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts")
sc.pp.neighbors(adata, use_rep="X_plnpca")
sc.tl.umap(adata)
sc.tl.leiden(adata, flavor="igraph", n_iterations=2)
scpln.tl.count_gmvae(adata, layer="counts", size_factor_key="n_counts", n_components=6)
adata.obs["certainty"] = adata.obsm["countgmvae_cluster_probs"].max(1)

figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
titles = {"leiden": "Leiden", "countgmvae_cluster": "CountGMVAE", "certainty": "probability of the cell's component"}
for (color, title), ax in zip(titles.items(), axes, strict=True):
    sc.pl.umap(adata, color=color, ax=ax, show=False, frameon=False, title=title)
