"""Cells that the model was not trained on: any order of genes, any AnnData, and what is refused."""

import logging

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from scpln.inference import elbo
from scpln.model import PLNPCA

from .conftest import POSTERIORS, make_adata, train


@pytest.fixture(params=POSTERIORS)
def model(request) -> PLNPCA:
    adata = make_adata(n_obs=200)[:150].copy()
    return train(adata, posterior=request.param, layer="counts", batch_key="batch")


@pytest.fixture
def new() -> anndata.AnnData:
    return make_adata(n_obs=200)[150:].copy()


def test_posterior_of_training_cells_is_found_again(trained):
    again, stored = trained.get_posterior(trained.adata.copy()), trained.get_posterior()
    np.testing.assert_allclose(again.mean, stored.mean, atol=2e-3)
    np.testing.assert_allclose(again.covariance, stored.covariance, atol=2e-3)


def test_posterior_is_the_optimum(model, new):
    posterior, best = model.get_posterior(new), model.get_elbo(new, return_mean=False)
    data = model._read(new).data
    b, c = model.get_coefficients().to_numpy(), model.get_loadings().to_numpy()
    rng = np.random.default_rng(0)
    for scale in (0.05, 0.3):
        moved = posterior.mean + scale * rng.normal(size=posterior.mean.shape)
        assert (elbo(data, b, c, moved, posterior.packed_covariance) < best).all()
        assert (elbo(data, b, c, posterior.mean, posterior.packed_covariance * (1 + scale)) < best).all()


def test_cells_do_not_depend_on_each_other(model, new):
    everything = model.get_latent_representation(new)
    np.testing.assert_allclose(model.get_latent_representation(new[::-1].copy()), everything[::-1], atol=2e-3)
    np.testing.assert_allclose(
        model.get_latent_representation(new, indices=[7, 3, 7]), everything[[7, 3, 7]], atol=2e-3
    )
    np.testing.assert_allclose(model.get_latent_representation(new[[7]].copy()), everything[[7]], atol=2e-3)


@pytest.mark.parametrize("arrange", ["reversed", "more genes", "view", "view of reversed", "csc", "dense"])
def test_genes_are_matched_by_name(model, new, arrange):
    expected = model.get_elbo(new, return_mean=False)
    other = new
    if arrange == "more genes":
        extra = new[:, :5].copy()
        extra.var_names = [f"extra_{j}" for j in range(5)]
        other = anndata.concat([extra, new], axis=1, merge="same")
    elif arrange == "csc":
        other.layers["counts"] = sp.csc_matrix(new.layers["counts"])
    elif arrange == "dense":
        other.layers["counts"] = new.layers["counts"].toarray()
    elif arrange != "view":
        other = new[:, ::-1] if arrange == "view of reversed" else new[:, ::-1].copy()
    if arrange == "view":
        other = make_adata(n_obs=200)[150:]
    np.testing.assert_allclose(model.get_elbo(other, return_mean=False), expected, rtol=1e-5)
    np.testing.assert_allclose(
        model.get_normalized_expression(other, return_numpy=True),
        model.get_normalized_expression(new, return_numpy=True),
        rtol=1e-3,
    )
    assert other.is_view == arrange.startswith("view")
    assert "_scvi_uuid" not in other.uns


def test_size_factors_are_centred_on_the_training_cells(model, new):
    counts = new.layers["counts"].toarray()
    center = np.log(model.adata.layers["counts"].toarray().sum(1)).mean()
    np.testing.assert_allclose(model._read(new).data.offsets, np.log(counts.sum(1)) - center)


def test_categories_may_be_of_another_type(new):
    adata = make_adata(n_obs=200)[:150].copy()
    adata.obs["batch"] = adata.obs["batch"].astype(int)
    model = train(adata, layer="counts", batch_key="batch")
    expected = model.get_elbo(new)
    new.obs["batch"] = new.obs["batch"].astype(str).astype(object)
    assert model.get_elbo(new) == expected


class TestRefused:
    """What new data must have, and what the user is told."""

    def test_missing_genes(self, fullrank, new):
        with pytest.raises(
            ValueError, match=r"7 of the model's 30 genes are missing from adata.var_names: 'gene_0', .*, …"
        ):
            fullrank.get_elbo(new[:, 7:].copy())

    def test_genes_that_repeat(self, fullrank, new):
        new.var_names = ["gene_0", *new.var_names[:-1]]
        with pytest.raises(ValueError, match="var_names are not unique"):
            fullrank.get_elbo(new)

    def test_unseen_batch(self, fullrank, new):
        new.obs["batch"] = "elsewhere"
        with pytest.raises(
            ValueError, match=r"'batch'\] \(batch_key\).*not trained on: \['elsewhere'\]. It knows \['0', '1'\]"
        ):
            fullrank.get_latent_representation(new)

    def test_missing_layer_and_column(self, fullrank, new):
        without = new.copy()
        del without.layers["counts"]
        with pytest.raises(ValueError, match=r"adata.layers has no 'counts'"):
            fullrank.get_elbo(without)
        del new.obs["batch"]
        with pytest.raises(ValueError, match=r"adata.obs has no column 'batch' \(batch_key\)"):
            fullrank.get_elbo(new)

    def test_no_counts(self, fullrank, new):
        new.layers["counts"] = new.layers["counts"] * 0.3
        with pytest.raises(ValueError, match=r"adata.layers\['counts'\] must hold raw counts"):
            fullrank.get_elbo(new)
        counts = make_adata(n_obs=200)[150:].layers["counts"].toarray().astype(float)
        counts[8] = np.nan
        new.layers["counts"] = counts
        with pytest.raises(ValueError, match="cell 'cell_158', gene 'gene_0'"):
            fullrank.get_elbo(new, indices=[3, 8])

    def test_no_anndata(self, fullrank):
        with pytest.raises(TypeError, match="adata must be an AnnData, not ndarray"):
            fullrank.get_elbo(np.eye(30))


def test_own_data_changed_after_training_are_new_cells(adata, caplog):
    model = train(adata, layer="counts", batch_key="batch")
    kept = np.arange(150) % 3 == 0
    expected = model.get_latent_representation()[kept]
    adata._inplace_subset_obs(kept)
    with caplog.at_level(logging.INFO, logger="scpln"):
        np.testing.assert_allclose(model.get_latent_representation(), expected, atol=2e-3)
    assert "changed after training" in caplog.text
    model.annotate()
    assert adata.obsm["X_plnpca"].shape == (50, 2)


def test_other_data_can_become_the_models_own(model, new):
    expected = model.get_latent_representation(new)
    model.adata = new
    np.testing.assert_allclose(model.get_latent_representation(), expected)
    assert repr(model).splitlines()[1].startswith("  data: 50 cells × 30 genes")


def test_cells_that_do_not_converge_are_named(model, new, monkeypatch):
    monkeypatch.setattr("scpln.inference.newton.poisson._infer.MAX_STEPS", 1)
    few = new[[3, 30]].copy()
    few.obs_names = ["odd", "odder"]
    with pytest.warns(UserWarning, match=r"posteriors of 2 of 2 cells did not converge.*: 'odd', 'odder'\."):
        model.get_elbo(few)
