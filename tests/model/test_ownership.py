"""What a key owns in AnnData is replaced as a whole."""

import anndata
import numpy as np
import pytest

import scpln
from scpln.model import PLNPCA, CountGMVAE, setup_anndata


@pytest.fixture
def adata():
    return scpln.datasets.simulate(n_obs=60, n_vars=12, n_latent=2, density=0.6, seed=1)


def names(adata):
    slots = ("obs", "obsm", "var", "varm", "varp", "uns")
    return {f"{slot}/{name}" for slot in slots for name in getattr(adata, slot)}


def fit(adata, kind=PLNPCA, key="fit", diagnostics=False, **arguments):
    setup_anndata(adata)
    model = kind(adata, n_latent=2, **arguments)
    model.train(progress=False, max_epochs=5)
    model.annotate(key_added=key, diagnostics=diagnostics)
    return model


def test_nothing_of_an_earlier_fit_stays(adata):
    """Diagnostics, parameters of a likelihood, clusters, and posterior-predictive checks with their columns."""
    model = fit(adata, likelihood="nb", diagnostics=True)
    scpln.tl.posterior_predictive(model, n_samples=2, key_added="fit")
    assert {"obs/fit_gap", "var/fit_inverse_dispersion", "var/fit_ppc_mean_observed"} <= names(adata)
    fit(adata)
    now = names(adata)
    fresh = scpln.datasets.simulate(n_obs=60, n_vars=12, n_latent=2, density=0.6, seed=1)
    fit(fresh)
    assert now == names(fresh)
    assert "posterior_predictive" not in adata.uns["fit"]


def test_another_kind_of_model_leaves_nothing_either(adata):
    fit(adata, CountGMVAE, n_components=2, n_hidden=4)
    assert "obs/fit_cluster" in names(adata)
    fit(adata)
    assert not {"obs/fit_cluster", "obsm/fit_cluster_probs"} & names(adata)


def test_what_others_wrote_stays(adata):
    adata.obs["fit_comment"] = "mine"
    adata.obsm["fit"] = np.ones((60, 1))
    fit(adata, key="fit_2")
    before = names(adata)
    fit(adata)
    assert before < names(adata)
    fit(adata)
    assert (adata.obs["fit_comment"] == "mine").all()
    assert before < names(adata), "results under a longer name are somebody else's"


def test_it_holds_through_a_file(adata, tmp_path):
    fit(adata, likelihood="nb", diagnostics=True)
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = anndata.read_h5ad(tmp_path / "a.h5ad")
    fit(read)
    assert not {"obs/fit_gap", "var/fit_inverse_dispersion"} & names(read)


def test_what_version_0_1_0_wrote_is_replaced_too(adata):
    """It did not say where."""
    fit(adata, CountGMVAE, n_components=2, n_hidden=4, likelihood="nb", diagnostics=True)
    adata.uns["fit"] = {name: value for name, value in adata.uns["fit"].items() if name != "written"}
    adata.obs["fit_comment"] = "mine"
    fit(adata)
    left = {"obs/fit_gap", "obs/fit_cluster", "obsm/fit_cluster_probs", "var/fit_inverse_dispersion"} & names(adata)
    assert not left
    assert "fit_comment" in adata.obs


def test_modalities():
    mdata = scpln.datasets.simulate_multimodal(60, {"rna": 12, "prot": 6}, density={"prot": 0.9}, seed=0)
    scpln.model.setup_mudata(mdata, modalities=["rna", "prot"])
    for likelihood in ({"rna": "poisson", "prot": "nb"}, "poisson"):
        model = PLNPCA(mdata, n_latent=2, likelihood=likelihood)
        model.train(progress=False, max_epochs=5)
        model.annotate(key_added="fit", diagnostics=likelihood != "poisson")
    assert "fit_inverse_dispersion" not in mdata["prot"].var
    assert "fit_gap" not in mdata.obs
    assert "fit_loadings" in mdata["prot"].varm


def test_clusters_embeddings_and_colors_go_with_their_fit(adata):
    """What the command line adds for a figure, and the colours that scanpy keeps for columns."""
    from scpln.cli._embedding import cluster_and_embed

    fit(adata)
    cluster_and_embed(adata, "fit", seed=0)
    adata.uns["fit_leiden_colors"] = np.array(["#000000"], dtype=object)
    adata.uns["kind_colors"] = np.array(["#ffffff"], dtype=object)
    fit(adata)
    assert not {"obs/fit_leiden", "obsm/X_fit_umap", "uns/fit_leiden_colors"} & names(adata)
    assert "uns/kind_colors" in names(adata)
