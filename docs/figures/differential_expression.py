"""Genes that differ between two groups of cells: how much, and how surely."""

import matplotlib.pyplot as plt

import scpln

adata = scpln.datasets.pbmc68k_reduced()
adata = adata[:, (adata.layers["counts"] > 0).sum(0).A1 >= 30].copy()  # genes of a few cells get extreme loadings
scpln.model.setup_anndata(adata, layer="counts", size_factor_key="n_counts")
model = scpln.model.PLNPCA(adata)
model.train(progress=False)
table = model.differential_expression(groupby="bulk_labels", group1="CD19+ B", group2="CD14+ Monocyte", seed=0)
called = table["is_de_fdr_0.05"]

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for genes, color, label in [
    (table[~called], "0.7", "not called"),
    (table[called], "C0", "called at 5 % false discoveries"),
]:
    ax.scatter(genes["lfc_median"], genes["proba_de"], s=10, color=color, label=label)
for gene in ["CD79A", "CD79B", "MS4A1", "LYZ", "S100A8", "CST3", "HLA-DRA"]:
    ax.annotate(
        gene,
        table.loc[gene, ["lfc_median", "proba_de"]],
        xytext=(0, 8),
        textcoords="offset points",
        fontsize=8,
        rotation=60,
    )
ax.set(xlabel="log2 fold change, B cells over monocytes (median)", ylabel="probability of a change")
ax.set_ylim(None, 1.15)
ax.legend(loc="lower right")
