"""PLNPCAModule: rates by quadrature and Monte Carlo, counts by their moments."""

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from scpln.module import Generative, LinearDecoder, PLNPCAModule, make_likelihood
from scpln.module.likelihoods import soft_clamp


def make_module(p: int = 6, q: int = 2, n: int = 4, seed: int = 0) -> PLNPCAModule:
    rng = np.random.default_rng(seed)
    packed = np.zeros((n, q * (q + 1) // 2), np.float32)
    packed[:, np.arange(q) * (np.arange(q) + 3) // 2] = rng.uniform(0.2, 1, (n, q))
    mean = rng.normal(size=(n, q)).astype(np.float32)
    coefficients, loadings = rng.normal(size=(p, 2)), 0.5 * rng.normal(size=(p, q))
    module = PLNPCAModule(Generative(LinearDecoder(coefficients, loadings), make_likelihood("poisson", p)))
    module.set_cells(mean, packed, rng.normal(size=n))
    return module


def test_rates_at_a_state_are_the_linear_predictor():
    module = make_module()
    design, z = np.ones((4, 2)), np.random.default_rng(1).normal(size=(3, 4, 2))
    b, c = module.coefficients.numpy(), module.loadings.numpy()
    np.testing.assert_allclose(module.rates(design, z), np.exp(design @ b.T + z @ c.T))
    np.testing.assert_allclose(module.rates(design, z, genes=[4, 1]), np.exp(design @ b.T + z @ c.T)[..., [4, 1]])


def test_expected_rates_are_the_integral_over_the_posterior():
    module = make_module(q=1)
    design, posterior = np.ones((4, 2)), module.posterior()
    nodes, weights = hermegauss(40)
    z = posterior.mean + np.sqrt(posterior.variance) * nodes[:, None, None]
    expected = np.tensordot(weights / weights.sum(), module.rates(design, z), 1)
    np.testing.assert_allclose(module.rates(design, posterior.mean, posterior.packed_covariance), expected, rtol=1e-8)


def test_expected_rates_use_the_whole_covariance():
    rng = np.random.default_rng(0)
    module = make_module(q=3)
    root = rng.normal(size=(4, 3, 3))
    covariance = root @ root.transpose(0, 2, 1)
    rows, columns = np.tril_indices(3)
    c = module.loadings.numpy()
    expected = np.exp(0.5 * np.einsum("jk,ikl,jl->ij", c, covariance, c))
    rates = module.rates(np.zeros((4, 2)), np.zeros((4, 3)), covariance[:, rows, columns])
    np.testing.assert_allclose(rates, expected)


def test_state_dict_rebuilds_the_module():
    module = make_module()
    again = PLNPCAModule.empty(n_genes=6, n_covariates=2, n_latent=2)
    again.load(module.state_dict())
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert module.device == torch.device("cpu")


def test_posterior_of_some_cells():
    module = make_module()
    np.testing.assert_array_equal(module.posterior([2, 0]).mean, module.posterior().mean[[2, 0]])


@pytest.mark.parametrize("rate", [0.1, 7.0, 1e30])
def test_draws_are_poisson(rate):
    counts = make_module().draw(torch.full((4000, 6), rate, dtype=torch.float64).log(), seed=0)
    limit = soft_clamp(torch.tensor(rate, dtype=torch.float64).log(), upper=25.0).exp().item()
    assert abs(counts.mean() - limit) < 5 * np.sqrt(limit / 24_000)
    assert (counts >= 0).all()
