"""Draw overview.png, the README's figure: cells and genes of a PLN-PCA. ``python docs/images/overview.py``."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc

import scpln

MARKERS = [
    "CD3D",
    "IL32",
    "TIGIT",
    "CD79A",
    "CD79B",
    "MS4A1",
    "NKG7",
    "GNLY",
    "PRF1",
    "CST3",
    "LYZ",
    "S100A8",
    "S100A9",
    "FCER1A",
    "HLA-DRA",
    "CLEC10A",
]

adata = scpln.datasets.pbmc68k_reduced()
adata = adata[:, np.asarray((adata.layers["counts"] > 0).sum(0)).ravel() >= 30].copy()
adata.obs["cell type"] = adata.obs["bulk_labels"]
scpln.tl.plnpca(adata, layer="counts", size_factor_key="n_counts", n_latent=10, seed=0, progress=False)
sc.pp.neighbors(adata, use_rep="X_plnpca")
sc.tl.umap(adata, random_state=0)

figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4), layout="constrained", width_ratios=[1.05, 1])
sc.pl.umap(
    adata,
    color="cell type",
    ax=left,
    show=False,
    frameon=False,
    size=22,
    legend_fontsize=8,
    title="UMAP of the latent states",
)
scpln.pl.correlation_circle(adata, components=(1, 2), genes=MARKERS, ax=right, show=False)
right.set_title("genes in the first two dimensions")
figure.savefig(Path(__file__).with_name("overview.png"), dpi=110)
