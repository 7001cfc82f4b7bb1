"""Priors: densities against scipy, the sum over components, known components, draws, and where components are placed."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from scpln.module import GaussianMixture, StandardNormal

K, Q = 3, 2


@pytest.fixture(params=[False, True], ids=["diagonal", "full"])
def mixture(request):
    torch.manual_seed(0)
    prior = GaussianMixture(K, Q, full=request.param)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter))
    return prior.double()


def components_of(prior):
    loc, covariance = prior.loc.detach().numpy(), prior.covariance.detach().numpy()
    return [multivariate_normal(mean, cov) for mean, cov in zip(loc, covariance, strict=True)]


def test_standard_normal():
    z = torch.randn(7, 5, Q, dtype=torch.float64)
    expected = multivariate_normal(np.zeros(Q), np.eye(Q)).logpdf(z.numpy())
    np.testing.assert_allclose(StandardNormal(Q).log_prob(z), expected)
    assert StandardNormal(Q).sample(4).shape == (4, Q)


def test_densities_are_those_of_scipy(mixture):
    z = torch.randn(4, 6, Q, dtype=torch.float64)
    log_weights = mixture.log_weights.detach().numpy()
    expected = np.stack([distribution.logpdf(z.numpy()) for distribution in components_of(mixture)], -1) + log_weights
    np.testing.assert_allclose(mixture.log_joint(z).detach(), expected)
    np.testing.assert_allclose(mixture.log_prob(z).detach(), logsumexp(expected, -1))
    np.testing.assert_allclose(mixture.responsibilities(z).detach().sum(-1), 1)


def test_known_components_take_their_part_of_the_sum(mixture):
    z = torch.randn(4, 6, Q, dtype=torch.float64)
    known = torch.tensor([-1, 0, 2, -1, 1, 1])
    joint, both = mixture.log_joint(z), mixture.log_prob_labelled(z, known)
    for cell, component in enumerate(known.tolist()):
        expected = mixture.log_prob(z)[:, cell] if component < 0 else joint[:, cell, component]
        torch.testing.assert_close(both[:, cell], expected)


def test_draws_have_the_moments_of_the_mixture(mixture):
    z = mixture.sample(100_000, torch.Generator().manual_seed(0)).detach().numpy()
    weights, loc = mixture.log_weights.exp().detach().numpy(), mixture.loc.detach().numpy()
    mean = weights @ loc
    covariance = np.einsum("k,kab->ab", weights, mixture.covariance.detach().numpy()) + np.einsum(
        "k,ka,kb->ab", weights, loc - mean, loc - mean
    )
    error = np.sqrt(np.diag(covariance) / len(z))
    assert (np.abs(z.mean(0) - mean) < 5 * error).all()
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.05 * np.diag(covariance).max())


def test_draws_of_a_component(mixture):
    z = mixture.sample_components(torch.full((50_000,), 1), torch.Generator().manual_seed(0)).detach().numpy()
    np.testing.assert_allclose(np.cov(z.T), mixture.covariance[1].detach(), rtol=0.1, atol=0.05)


def test_the_penalty_is_a_divergence_from_the_standard_normal(mixture):
    divergences = [
        0.5 * (np.trace(cov) + mean @ mean - Q - np.linalg.slogdet(cov)[1])
        for mean, cov in zip(mixture.loc.detach().numpy(), mixture.covariance.detach().numpy(), strict=True)
    ]
    assert mixture.penalty().item() == pytest.approx(sum(divergences))


def test_components_are_placed(mixture):
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(K, Q))
    covariance = np.stack([np.cov(rng.normal(size=(Q, 50))) for _ in range(K)])
    mixture.place(loc, covariance, [0.5, 0.3, 0.2])
    np.testing.assert_allclose(mixture.loc.detach(), loc)
    if not mixture.full:
        covariance = covariance * np.eye(Q)
    np.testing.assert_allclose(mixture.covariance.detach(), covariance)
    np.testing.assert_allclose(mixture.log_weights.exp().detach(), [0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("weights", "expected"), [("uniform", [0.25] * 4), ([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])]
)
def test_weights_that_are_given_stay(weights, expected):
    prior = GaussianMixture(4, Q, weights=weights)
    prior.place(np.zeros((4, Q)), np.tile(np.eye(Q), (4, 1, 1)), np.full(4, 0.25))
    np.testing.assert_allclose(prior.log_weights.exp().detach(), expected, rtol=1e-6)
    assert not prior.logits.requires_grad


def test_variances_have_a_floor(mixture):
    with torch.no_grad():
        mixture.log_scale.fill_(-1e3)
    assert torch.isfinite(mixture.log_prob(torch.zeros(1, Q, dtype=torch.float64))).all()
    assert (mixture.covariance.diagonal(dim1=-2, dim2=-1) >= 0.03**2 - 1e-12).all()
