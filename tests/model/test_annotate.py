"""What annotate writes, that it survives a file, and that scanpy can use it."""

import anndata
import numpy as np
import pytest
import scanpy as sc

import scpln

from .conftest import make_adata, train


@pytest.fixture
def model(adata):
    return train(adata, layer="counts", batch_key="batch")


def test_everything_is_written(model, adata):
    model.annotate()
    np.testing.assert_array_equal(adata.obsm["plnpca_state"], model.get_latent_representation())
    np.testing.assert_array_equal(adata.obsm["X_plnpca"], model.get_latent_representation(space="expression"))
    np.testing.assert_array_equal(adata.obs["plnpca_elbo"], model.get_elbo(return_mean=False))
    np.testing.assert_array_equal(adata.varm["plnpca_loadings"], model.get_loadings())
    uns = adata.uns["plnpca"]
    assert (uns["model"], uns["version"], uns["n_obs"]) == ("PLNPCA", scpln.__version__, 150)
    assert uns["params"] == {
        "n_latent": 2,
        "n_components": 1,
        "posterior": "fullrank",
        "prior": "learned",
        "inference": "variational",
        "likelihood": "poisson",
        "amortized": False,
    }
    assert uns["setup"] == {"layer": "counts", "batch_key": "batch"}
    assert uns["elbo"] == pytest.approx(model.get_elbo())
    assert uns["training"]["converged"] is True
    np.testing.assert_array_equal(uns["history"]["elbo"], model.history["elbo"]["elbo"])
    np.testing.assert_array_equal(uns["variance_explained"], model.get_variance_explained())


def test_scores_times_loadings_are_the_log_rates(model, adata):
    model.annotate()
    z = model.get_posterior()
    design = np.column_stack([np.ones(150), adata.obs["batch"] == "1"])
    eta = design @ model.get_coefficients().to_numpy().T + adata.obsm["plnpca_state"] @ adata.varm["plnpca_loadings"].T
    spread = 0.5 * np.einsum(
        "jk,ikl,jl->ij", adata.varm["plnpca_loadings"], z.covariance, adata.varm["plnpca_loadings"]
    )
    np.testing.assert_allclose(np.exp(eta + spread), model.get_normalized_expression(), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("write", ["write_h5ad", "write_zarr"])
def test_it_survives_a_file(model, adata, tmp_path, write):
    model.annotate(key_added="first")
    path = tmp_path / "annotated"
    getattr(adata, write)(path)
    again = anndata.read_h5ad(path) if write == "write_h5ad" else anndata.read_zarr(path)
    np.testing.assert_array_equal(again.obsm["X_first"], adata.obsm["X_first"])
    np.testing.assert_array_equal(again.varm["first_loadings"], adata.varm["first_loadings"])
    np.testing.assert_array_equal(again.obs["first_elbo"], adata.obs["first_elbo"])
    for name in ("params", "setup", "training"):
        assert again.uns["first"][name] == adata.uns["first"][name]
    np.testing.assert_array_equal(again.uns["first"]["history"]["elbo"], adata.uns["first"]["history"]["elbo"])


def test_two_results_side_by_side(model, adata):
    model.annotate()
    model.annotate(key_added="other")
    assert {"plnpca", "other"} <= set(adata.uns)
    assert {"X_plnpca", "X_other"} <= set(adata.obsm)


def test_new_data_with_other_genes(model):
    other = make_adata(n_obs=170)[150:].copy()
    extra = other[:, :2].copy()
    extra.var_names = ["extra_0", "extra_1"]
    other = anndata.concat([extra, other[:, ::-1]], axis=1, merge="same")
    model.annotate(other)
    assert other.uns["plnpca"]["n_obs"] == 20
    np.testing.assert_array_equal(other.obsm["plnpca_state"], model.get_latent_representation(other))
    assert np.isnan(other.varm["plnpca_loadings"][:2]).all()
    np.testing.assert_array_equal(other.varm["plnpca_loadings"][2:], model.get_loadings().iloc[::-1])


def test_a_view_is_refused_and_unchanged(model, adata):
    view = adata[:10]
    with pytest.raises(ValueError, match=r"view of another AnnData .*`adata = adata.copy\(\)`"):
        model.annotate(view)
    assert view.is_view


@pytest.mark.filterwarnings("ignore")
def test_scanpy_goes_on_from_there(model, adata):
    model.annotate()
    sc.pp.neighbors(adata, use_rep="X_plnpca")
    sc.tl.umap(adata)
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2)
    assert adata.obsm["X_umap"].shape == (150, 2)
    assert adata.obs["leiden"].nunique() > 1


@pytest.mark.parametrize("key", ["my/run", "", ".", "a\0b", "\ud800", "_scvi_run"])
def test_names_that_files_cannot_store_are_refused(model, adata, key):
    places = {*adata.obs, *adata.obsm, *adata.uns}
    for write in (
        lambda: model.annotate(key_added=key),
        lambda: scpln.tl.posterior_predictive(model, adata, key_added=key),
        lambda: scpln.tl.plnpca(adata, key_added=key, layer="counts"),
    ):
        with pytest.raises(ValueError, match=r"key_added=.*, but it must be a name that files can store"):
            write()
    with pytest.raises(TypeError, match="key_added=5, but it must be a name"):
        model.annotate(key_added=5)
    assert {*adata.obs, *adata.obsm, *adata.uns} == places


def test_no_training_for_a_name_that_cannot_be_stored(adata, monkeypatch):
    monkeypatch.setattr(scpln.model.PLNPCA, "train", lambda *_a, **_k: pytest.fail("trained"))
    with pytest.raises(ValueError, match="key_added='my/run'"):
        scpln.tl.plnpca(adata, key_added="my/run", layer="counts")
