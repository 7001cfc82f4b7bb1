"""What the page computes: cells in a UMAP of the latent states, by cluster and by known cell type."""

import matplotlib.pyplot as plt
import scanpy as sc

import scpln

adata = scpln.datasets.pbmc68k_reduced()
scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts")
sc.pp.neighbors(adata, use_rep="X_plnpca")
sc.tl.umap(adata)
sc.tl.leiden(adata, flavor="igraph", n_iterations=2)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
sc.pl.umap(adata, color="leiden", ax=left, show=False, frameon=False, title="clusters (Leiden)")
sc.pl.umap(adata, color="bulk_labels", ax=right, show=False, frameon=False, title="known cell types")
