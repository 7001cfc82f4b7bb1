"""The seed of the settings reaches every draw, and parameters may be on another device than the solvers."""

import copy

import numpy as np
import pytest

import scpln
from scpln.model import PLNPCA, CountVAE, setup_anndata
from scpln.model.plnpca import _plnpca


@pytest.fixture(scope="module")
def adata():
    adata = scpln.datasets.simulate(n_obs=60, n_vars=12, n_latent=2, density=0.6, seed=1)
    setup_anndata(adata)
    return adata


def train(adata, name):
    if name == "vae":
        model = CountVAE(adata, n_latent=2, n_hidden=8)
        model.train(max_epochs=5, progress=False)
        return model
    model = PLNPCA(adata, n_latent=2, posterior="flow", n_transforms=2, flow_hidden=[4])
    model.train(n_steps=20, progress=False)
    return model


@pytest.fixture(scope="module", params=["vae", "flow"])
def model(request, adata):
    return train(adata, request.param)


@pytest.mark.parametrize("refine", [0, 3])
def test_bounds_follow_the_seed_of_the_settings(model, refine):
    default = model.get_elbo(refine=refine)
    with scpln.settings.override(seed=1):
        elbo = model.get_elbo(refine=refine)
        assert elbo == pytest.approx(model.get_bound_terms(refine=refine)["elbo"].mean())
    assert elbo != default
    assert elbo == pytest.approx(model.get_elbo(refine=refine, seed=1))
    assert model.get_elbo(refine=refine) == default


def test_refining_follows_the_seed(model):
    posterior = model.get_posterior(refine=3, seed=1)
    with scpln.settings.override(seed=1):
        np.testing.assert_array_equal(model.get_posterior(refine=3).gaussian.mean, posterior.gaussian.mean)
    assert not np.array_equal(model.get_posterior(refine=3).gaussian.mean, posterior.gaussian.mean)


@pytest.mark.parametrize("arguments", [{}, {"likelihood": "nb"}, {"posterior": "flow", "n_transforms": 2}])
def test_new_cells_of_a_model_on_another_device(adata, arguments, monkeypatch):
    """Nothing is computed from parameters that are elsewhere: torch's meta device has none that could be read."""
    model = PLNPCA(adata, n_latent=2, **arguments)
    model.train(progress=False, max_epochs=5, **({"n_steps": 5} if "posterior" in arguments else {}))
    new = adata[:7].copy()
    expected, bound = model.get_latent_representation(new), model.get_elbo(new, refine=2)
    here, on_cpu = copy.deepcopy(model.module), _plnpca.on_cpu
    model.to_device("meta")
    assert model.module.device.type == "meta"
    monkeypatch.setattr(_plnpca, "on_cpu", lambda module: here if module is model.module else on_cpu(module))
    np.testing.assert_array_equal(model.get_latent_representation(new), expected)
    assert model.get_elbo(new, refine=2) == bound
