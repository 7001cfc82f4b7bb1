"""One latent state for two modalities: the share of each dimension in the variance of genes and of proteins."""

import matplotlib.pyplot as plt
import numpy as np

import scpln

mdata = scpln.datasets.simulate_multimodal(
    400, {"rna": 100, "prot": 15}, likelihood={"prot": "nb"}, missing={"prot": 0.2}, n_latent=3, n_batches=2
)
scpln.model.setup_mudata(mdata, modalities=["rna", "prot"], batch_key="batch")
model = scpln.model.PLNPCA(mdata, n_latent=3, likelihood={"rna": "poisson", "prot": "nb"})
model.train(progress=False)
latent = model.get_latent_representation()
measured = mdata.obs_names.isin(mdata["prot"].obs_names)

figure, (cells, shares) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for chosen, color, label in [(measured, "C0", "RNA and proteins"), (~measured, "C1", "RNA only")]:
    cells.scatter(*latent[chosen, :2].T, s=12, color=color, label=label)
cells.set(xlabel="Z_0", ylabel="Z_1", title="cells with and without proteins")
cells.legend()
for offset, modality in [(-0.2, "rna"), (0.2, "prot")]:
    explained = model.get_variance_explained(modality)
    shares.bar(np.arange(len(explained)) + offset, explained, width=0.4, label=modality)
shares.set(
    xlabel="latent dimension", ylabel="share of the variance", xticks=range(3), title="what each dimension explains"
)
shares.legend()
