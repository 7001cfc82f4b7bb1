"""Rates as shares of a total, with every likelihood of counts, and the name that they had."""

import json
import warnings

import numpy as np
import pytest

import scpln
from scpln.datasets import simulate
from scpln.model import CountGMVAE, CountVAE, setup_anndata

SMALL = {"n_latent": 2, "n_hidden": 8}
QUICK = {"max_epochs": 2, "start": "random", "progress": False}


@pytest.fixture
def adata():
    adata = simulate(n_obs=80, n_vars=15, n_latent=2, seed=0)
    setup_anndata(adata)
    return adata


@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli"])
def test_rates_add_up_to_the_total(adata, likelihood):
    model = CountVAE(adata, **SMALL, likelihood=likelihood, scale_activation="softmax")
    model.train(**QUICK)
    assert np.isfinite(model.get_elbo(return_mean=False)).all()
    assert np.isfinite(model.get_iw_bound(n_samples=20, return_mean=False)).all()
    totals = model.get_normalized_expression(n_samples=3, return_numpy=True).sum(1)
    np.testing.assert_allclose(totals, totals[0], rtol=1e-5)
    assert totals[0] == pytest.approx(np.exp(float(model.module.generative.decoder.log_total)), rel=1e-4)


def test_a_mixture_and_small_counts(adata):
    model = CountGMVAE(adata, 2, **SMALL, k_max=2, scale_activation="softmax")
    model.train(**QUICK)
    assert np.isfinite(model.get_elbo())


def same(first, second):
    np.testing.assert_array_equal(first.get_elbo(return_mean=False), second.get_elbo(return_mean=False))


@pytest.mark.parametrize("model_class", [CountVAE, CountGMVAE])
def test_the_old_name(adata, model_class, tmp_path):
    arguments = {"n_components": 2} if model_class is CountGMVAE else {}
    with pytest.warns(FutureWarning, match=r"likelihood='constrained_poisson' is deprecated.*softmax'") as found:
        old = model_class(adata, **SMALL, **arguments, likelihood="constrained_poisson")
    assert {warning.filename for warning in found} == {__file__}
    new = model_class(adata, **SMALL, **arguments, likelihood="poisson", scale_activation="softmax")
    for model in (old, new):
        model.train(**QUICK)
    same(old, new)
    new.save(tmp_path / "new")
    saved = json.loads((tmp_path / "new" / "model.json").read_text())["model"]["init_params"]
    assert (saved["likelihood"], saved["scale_activation"]) == ("poisson", "softmax")


def test_models_saved_with_the_old_name(adata, tmp_path):
    model = CountVAE(adata, **SMALL, likelihood="poisson", scale_activation="softmax")
    model.train(**QUICK)
    parameters = model.init_params_["non_kwargs"]
    parameters["likelihood"] = "constrained_poisson"
    del parameters["scale_activation"]
    model.save(tmp_path / "old")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = CountVAE.load(tmp_path / "old", adata)
    same(loaded, model)
    assert "scale_activation='softmax'" in repr(loaded)


def test_in_one_call(adata):
    with pytest.warns(FutureWarning, match="constrained_poisson") as found:
        scpln.tl.count_vae(adata, **SMALL, likelihood="constrained_poisson", **QUICK)
    assert __file__ in {warning.filename for warning in found if "constrained" in str(warning.message)}
    assert adata.uns["countvae"]["params"]["scale_activation"] == "softmax"
