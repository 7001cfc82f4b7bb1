"""New cells: latent states from the prior, and counts given these."""

import numpy as np
import pytest

from scpln.datasets import simulate, simulate_multimodal
from scpln.model import PLNPCA, CountGMVAE, CountVAE, setup_anndata, setup_mudata

from .every_model import KINDS, trained


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_draws_new_cells(kind):
    model = trained(kind)
    counts, z = model.prior_predictive_sample(7, seed=1, return_latent=True)
    assert counts.shape == (7, 14)
    assert z.shape == (7, model.module.generative.decoder.n_latent)
    assert np.isfinite(counts).all()
    np.testing.assert_array_equal(model.prior_predictive_sample(7, seed=1), counts)
    assert (model.prior_predictive_sample(7, seed=2) != counts).any()


def test_means_are_those_of_the_model():
    adata = simulate(n_obs=300, n_vars=20, n_latent=2, n_batches=2, seed=0)
    setup_anndata(adata, batch_key="batch")
    model = PLNPCA(adata, n_latent=2)
    model.train(progress=False)
    counts, z = model.prior_predictive_sample(40_000, return_latent=True)
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.03)
    intercept = model.get_coefficients()["(Intercept)"].to_numpy()
    expected = np.exp(intercept + np.diag(model.get_covariance()) / 2)
    np.testing.assert_allclose(counts.mean(0), expected, rtol=0.15)


def test_of_modalities():
    mdata = simulate_multimodal(60, {"rna": 12, "prot": 5}, n_latent=2, seed=0)
    setup_mudata(mdata, modalities=["rna", "prot"])
    model = PLNPCA(mdata, n_latent=2, likelihood={"rna": "poisson", "prot": "nb"})
    model.train(max_epochs=5, progress=False)
    assert model.prior_predictive_sample(3).shape == (3, 17)


def test_the_old_name_of_a_mixture():
    model = trained("CountGMVAE")
    with pytest.warns(FutureWarning, match=r"sample\(\) is deprecated.*prior_predictive_sample\(\)") as found:
        old = model.sample(4, 1, seed=3)
    assert {warning.filename for warning in found} == {__file__}
    np.testing.assert_array_equal(old, model.prior_predictive_sample(4, 1, seed=3))
    with pytest.raises(ValueError, match="component=5 is not one of"):
        model.prior_predictive_sample(4, component=5)


@pytest.mark.parametrize("model_class", [PLNPCA, CountVAE, CountGMVAE])
def test_what_is_refused(model_class):
    adata = simulate(n_obs=30, n_vars=10, n_latent=2, seed=0)
    setup_anndata(adata)
    with pytest.raises(RuntimeError, match="is not trained"):
        model_class(adata, n_latent=2).prior_predictive_sample()
    name = {PLNPCA: "PLNPCA", CountVAE: "CountVAE", CountGMVAE: "CountGMVAE"}[model_class]
    with pytest.raises(ValueError, match="n_samples=0"):
        trained(name if name != "PLNPCA" else "PLNPCA, poisson").prior_predictive_sample(0)
