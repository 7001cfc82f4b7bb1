"""One argument for every estimator in gene space, and one interface of results."""

import numpy as np
import pytest
import torch

import scpln
from scpln.inference.estimators import fit_quadrature
from scpln.model import PLN, setup_anndata
from scpln.model.pln import _training

from .test_pln import simulated

P = 5


def poisson(eta, y):
    return y * eta - eta.exp() - torch.lgamma(y + 1)


KINDS = {
    "importance": {"inference": "importance"},
    "quadrature": {"covariance": "diagonal", "inference": "quadrature"},
    "spherical": {"covariance": "spherical", "inference": "quadrature", "posterior": "meanfield"},
    "nuts": {"inference": "nuts"},
    "score_function": {"inference": "score_function", "likelihood": poisson},
}
DRAWS = {"importance": 100, "nuts": 100, "score_function": 8}


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    arguments = KINDS[request.param]
    model = PLN(simulated(60, P), **arguments)
    draws = DRAWS.get(arguments["inference"])
    model.train(**({} if draws is None else {"n_samples": draws}), progress=False)
    return model


def test_results_are_asked_for_in_the_same_way(model):
    assert isinstance(model.converged, bool)
    assert model.stop_reason
    assert len(model.history["elbo"]) > 1
    assert model.get_covariance().shape == (P, P)
    assert model.get_coefficients().shape == (P, 2)
    assert np.isfinite(model.get_elbo())
    assert model.get_elbo() == pytest.approx(model.get_iw_bound(n_samples=2000), abs=0.15)
    terms = model.get_bound_terms()
    assert terms["reconstruction"].sub(terms["kl"]).to_numpy() == pytest.approx(terms["elbo"].to_numpy())
    assert terms["elbo"].mean() < model.get_elbo() + 0.05
    model.annotate()
    adata = model.adata
    assert adata.obs["pln_elbo"].mean() == pytest.approx(model.get_elbo())
    drawn = model.inference in ("importance", "nuts")
    assert ("pln_ess" in adata.obs) == drawn
    if drawn:
        assert adata.obs["pln_ess"].between(0, 1).all()
        assert model.training_["low_ess"] < 0.1


def test_new_cells_are_training_cells(model):
    copy = model.adata[:, ::-1].copy()
    close = 0.3 if model.inference == "score_function" else 1e-5  # of draws of their own
    assert model.get_elbo(copy, return_mean=False) == pytest.approx(model.get_elbo(return_mean=False), abs=close)
    latent = model.get_latent_representation()
    assert model.get_latent_representation(copy) == pytest.approx(latent, abs=1.0 if close > 0.1 else 1e-4)


def test_it_is_saved_and_loaded_unless_it_has_a_function(model, tmp_path):
    if callable(model.likelihood):
        with pytest.raises(ValueError, match="likelihood= is a function"):
            model.save(tmp_path / "model")
        assert "likelihood='poisson'" in repr(model)  # the function's name
        return
    model.save(tmp_path / "model")
    loaded = PLN.load(tmp_path / "model", model.adata.copy())
    assert loaded.inference == model.inference
    assert loaded.get_elbo() == model.get_elbo()
    new = model.adata[:, ::-1].copy()
    assert loaded.get_elbo(new, return_mean=False) == pytest.approx(model.get_elbo(return_mean=False), abs=1e-5) or (
        model.inference == "score_function"
    )


def test_quadrature_is_that_of_the_solver(model):
    if model.inference != "quadrature":
        pytest.skip("of other estimators")
    data = model._read(None).data
    result = fit_quadrature(data, model._new_covariance(), tol=1e-8)
    assert model.get_elbo(return_mean=False) == pytest.approx(result.elbo, abs=1e-3)
    assert "log-likelihood" in PLN.__doc__


def test_a_function_has_no_moments(model):
    if not callable(model.likelihood):
        pytest.skip("of functions")
    with pytest.raises(NotImplementedError, match="log-density"):
        model.prior_predictive_sample(3)


def test_choices_that_do_not_go_together_are_refused():
    adata = simulated(40, P)
    for arguments, said in (
        ({"inference": "quadrature"}, "inference='importance'"),
        ({"inference": "importance", "posterior": "meanfield"}, "posterior='meanfield'"),
        ({"inference": "score_function"}, "likelihood=function"),
        ({"likelihood": poisson}, "likelihood=function"),
        ({"inference": "guess"}, "inference"),
        ({"likelihood": "guess"}, "likelihood"),
    ):
        with pytest.raises(ValueError, match=said):
            PLN(adata, **arguments)
    with pytest.raises(ValueError, match="n_samples="):
        PLN(adata).train(n_samples=10, progress=False)


def test_weights_that_say_little_are_warned_of(monkeypatch):
    adata = simulated(60, P)
    model = PLN(adata, inference="importance")
    with pytest.warns(UserWarning, match="effective draws"):
        model.train(n_samples=5, progress=False)
    assert model.training_["low_ess"] == 1
    with pytest.warns(UserWarning, match="R̂"):
        _training.warn_of_weights({"r_hat": 1.2})


def test_one_call_takes_it():
    adata = scpln.datasets.simulate(60, P, n_latent=2, density=0.6, seed=0)
    scpln.tl.pln(adata, covariance="diagonal", inference="quadrature", progress=False)
    assert adata.uns["pln"]["params"]["inference"] == "quadrature"


def test_two_genes_of_any_covariance():
    adata = scpln.datasets.simulate(60, 2, n_latent=1, density=0.6, seed=0)
    setup_anndata(adata)
    exact, weighted, bound = (PLN(adata, inference=each) for each in ("quadrature", "importance", "variational"))
    for each in (exact, weighted, bound):
        each.train(progress=False)
    assert bound.get_elbo() < exact.get_elbo()
    assert weighted.get_elbo() == pytest.approx(exact.get_elbo(), abs=0.01)
