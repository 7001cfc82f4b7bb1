"""What CountVAE finds: cells in a UMAP of its latent states, and the bound over its epochs."""

import matplotlib.pyplot as plt
import scanpy as sc

import scpln

adata = scpln.datasets.pbmc68k_reduced()
scpln.tl.count_vae(adata, layer="counts", size_factor_key="n_counts")
sc.pp.neighbors(adata, use_rep="X_countvae")
sc.tl.umap(adata)

figure, (cells, history) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=[1.3, 1])
sc.pl.umap(adata, color="bulk_labels", ax=cells, show=False, frameon=False, title="known cell types")
scpln.pl.history(adata, key="countvae", ax=history, show=False)
