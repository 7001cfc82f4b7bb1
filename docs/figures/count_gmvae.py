"""What CountGMVAE finds: components of the mixture among the cells, and how known cell types fall on them."""

import matplotlib.pyplot as plt

import scpln

adata = scpln.datasets.pbmc68k_reduced()
scpln.tl.count_gmvae(adata, layer="counts", size_factor_key="n_counts", n_components=6)

figure, (components, labels) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
scpln.pl.mixture_components(adata, key="countgmvae", ax=components, show=False)
scpln.pl.cluster_probabilities(adata, key="countgmvae", groupby="bulk_labels", ax=labels, show=False)
