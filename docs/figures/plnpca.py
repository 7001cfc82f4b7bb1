"""What PLN-PCA finds: cells along two components, the variance each explains, and the genes behind one."""

import matplotlib.pyplot as plt

import scpln

adata = scpln.datasets.pbmc68k_reduced()
adata = adata[:, (adata.layers["counts"] > 0).sum(0).A1 >= 30].copy()  # genes of a few cells get extreme loadings
scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts")

figure, (cells, variance, genes) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", width_ratios=[1.5, 1, 1])
scpln.pl.latent(adata, key="plnpca", color="bulk_labels", ax=cells, show=False)
scpln.pl.variance_explained(adata, key="plnpca", ax=variance, show=False)
scpln.pl.loadings(adata, key="plnpca", components=1, n_genes=12, ax=genes, show=False)
