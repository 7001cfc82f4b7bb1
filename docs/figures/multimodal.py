"""One latent state for two modalities: proteins tell cells apart that RNA alone does not.

RNA is real; proteins are drawn by cell type.
"""

import matplotlib.pyplot as plt
import pandas as pd
import scanpy as sc

import scpln

mdata = scpln.datasets.pbmc68k_simulated_proteins()
modalities = {"rna": {"layer": "counts", "size_factor_key": "n_counts"}, "prot": None}
likelihood = {"rna": "poisson", "prot": "nb"}
scpln.tl.plnpca(mdata, modalities=modalities, likelihood=likelihood, n_latent=15, progress=False)
rna = mdata["rna"]
scpln.tl.plnpca(rna, layer="counts", size_factor_key="n_counts", n_latent=15, key_added="alone", progress=False)
rna.obsm["X_joint"] = mdata.obsm["X_plnpca"]

# What differs between the panels are T cells and NK cells: others are grey.
colors = {
    "CD4 T": "tab:blue",
    "CD8 T": "tab:orange",
    "CD56+ NK": "tab:green",
    "CD19+ B": "0.35",
    "CD14+ Monocyte": "0.5",
    "Dendritic": "0.65",
    "CD34+": "0.8",
}
label = rna.obs["bulk_labels"].astype(str)
kind = label.where(~label.str.match("CD[48][+]"), label.str[:3] + " T")
rna.obs["kind"] = pd.Categorical(kind, categories=list(colors))
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
titles = {"X_alone": "from RNA alone", "X_joint": "from RNA and proteins"}
for (states, title), ax in zip(titles.items(), axes, strict=True):
    sc.pp.neighbors(rna, use_rep=states)
    sc.tl.umap(rna)
    legend = "right margin" if ax is axes[-1] else None
    sc.pl.umap(rna, color="kind", palette=colors, ax=ax, show=False, frameon=False, title=title, legend_loc=legend)
