"""Small simulated counts with the results of a PLN-PCA and of a mixture, and a clean pyplot."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp

import scpln

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="package")
def fitted():
    adata = scpln.datasets.simulate(60, 30, n_latent=3, density=0.5, seed=0)
    scpln.model.setup_anndata(adata)
    model = scpln.model.PLNPCA(adata, n_latent=3)
    model.train(progress=False)
    model.annotate(diagnostics=True)
    scpln.tl.posterior_predictive(model, n_samples=3)
    scpln.tl.count_gmvae(
        adata, n_components=4, n_latent=2, n_hidden=8, max_epochs=2, progress=False, key_added="mixture"
    )
    scpln.tl.count_vqvae(adata, n_codes=2, codebook_size=4, n_hidden=8, max_epochs=2, start="random", progress=False)
    some = adata[:, :10].copy()
    scpln.tl.pln(some, penalty=0.05, progress=False, key_added="net")
    adata.uns["net"] = some.uns["net"]
    edges = some.varp["net_network"].tocoo()
    adata.varp["net_network"] = sp.csr_matrix((edges.data, (edges.row, edges.col)), shape=(30, 30))
    adata.var["clade"] = np.resize(["x", "y", "z"], 30)
    scpln.tl.tree_walk(adata, tree="clade", max_epochs=2, max_children=2, progress=False)
    adata.obs["group"] = np.resize(["a", "b", None], 60)
    adata.obs["group"] = adata.obs["group"].astype("category")
    adata.obs["age"] = np.where(np.arange(60) % 7, np.linspace(0, 1, 60), np.nan)
    return adata


@pytest.fixture
def adata(fitted):
    """A copy that a test may change."""
    return fitted.copy()
