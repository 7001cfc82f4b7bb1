"""The same cells twice, in a UMAP of the latent states: with the batches in them, and with the batches in the design."""

import matplotlib.pyplot as plt
import scanpy as sc

import scpln

adata = scpln.datasets.simulate(600, 100, n_latent=3, n_batches=3, batch_sd=0.7)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for batch_key, title, ax in zip([None, "batch"], ["batches not named", 'batch_key="batch"'], axes, strict=True):
    scpln.tl.plnpca(adata, n_latent=5, batch_key=batch_key, size_factor_key="size_factor")
    sc.pp.neighbors(adata, use_rep="X_plnpca")
    sc.tl.umap(adata)
    sc.pl.umap(adata, color="batch", ax=ax, show=False, frameon=False, title=title)
