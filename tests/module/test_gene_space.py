"""Priors, posteriors and decoders in gene space, against dense Gaussians and SciPy."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from scpln.module import (
    Batch,
    GaussianPosterior,
    GeneSpacePosterior,
    IdentityDecoder,
    LinearDecoder,
    MixturePosterior,
    Normal,
    NormalMixture,
)
from scpln.module.posteriors import _gene_space

N, P = 5, 4


def parts(seed=0):
    random = np.random.default_rng(seed)
    root = random.normal(size=(P, P)) + 2 * np.eye(P)
    scale = np.linalg.cholesky(root @ root.T)
    weight = random.gamma(1, 2, (N, P))
    return random.normal(size=(N, P)), weight, scale


def posterior(*, diagonal):
    mean, weight, scale = parts()
    precision = np.linalg.inv(scale @ scale.T) + np.einsum("nj,jk->njk", weight, np.eye(P))
    if diagonal:
        covariance = np.einsum("nj,jk->njk", 1 / np.einsum("njj->nj", precision), np.eye(P))
    else:
        covariance = np.linalg.inv(precision)
    variance = np.einsum("njj->nj", covariance)
    return GeneSpacePosterior(mean, variance, weight, scale, diagonal=diagonal), covariance


def prior():
    prior = Normal(P).double()
    prior.scale.copy_(torch.from_numpy(parts()[2]))
    return prior


@pytest.fixture(params=[False, True], ids=["fullrank", "meanfield"])
def both(request):
    return posterior(diagonal=request.param)


def test_covariances_are_those_of_dense_inverses(both):
    mine, covariance = both
    assert mine.covariance == pytest.approx(covariance)
    assert mine.variance == pytest.approx(np.einsum("njj->nj", mine.covariance))
    assert mine[[3, 1]].covariance == pytest.approx(covariance[[3, 1]])
    assert mine[np.array([False] * N)].covariance.shape == (0, P, P)


def test_densities_and_draws_are_those_of_dense_gaussians(both, monkeypatch):
    mine, covariance = both
    z = np.random.default_rng(1).normal(size=(3, N, P))
    expected = [
        [multivariate_normal(m, v).logpdf(x) for m, v, x in zip(mine.mean, covariance, xs, strict=True)] for xs in z
    ]
    assert mine.log_prob(z) == pytest.approx(np.array(expected))
    noise = torch.randn(7, N, P, dtype=torch.float64)
    states, density = mine.reparameterize(noise)
    assert density.numpy() == pytest.approx(mine.log_prob(states.numpy()))
    monkeypatch.setattr(_gene_space, "MOST_NUMBERS", 2 * P**2)  # two cells at a time
    in_parts, _ = mine.reparameterize(noise)
    torch.testing.assert_close(in_parts, states)
    draws = mine.sample(40_000, seed=2)
    assert draws.mean(0) == pytest.approx(mine.mean, abs=0.03)
    assert np.cov(draws[:, 2].T) == pytest.approx(covariance[2], abs=0.05)


def test_divergences_are_those_of_dense_gaussians(both):
    mine, covariance = both
    sigma = prior().total_covariance().numpy()
    omega = np.linalg.inv(sigma)
    expected = [
        0.5 * (np.trace(omega @ v) + m @ omega @ m - P + np.linalg.slogdet(sigma)[1] - np.linalg.slogdet(v)[1])
        for m, v in zip(mine.mean, covariance, strict=True)
    ]
    assert mine.divergence(prior()) == pytest.approx(np.array(expected))
    whole = GaussianPosterior(mine.mean, mine.packed_covariance)
    assert mine.gaussian.covariance == pytest.approx(covariance)
    assert mine.marginal_divergences(prior()) == pytest.approx(
        super(Normal, prior()).marginal_divergence_from_gaussian(whole.mean, whole.variance)
    )


def test_the_prior_is_a_normal_distribution():
    z = torch.randn(6, 2, P, dtype=torch.float64)
    sigma = prior().total_covariance().numpy()
    assert prior().log_prob(z).numpy() == pytest.approx(multivariate_normal(np.zeros(P), sigma).logpdf(z.numpy()))
    assert prior().log_marginals(z).numpy() == pytest.approx(norm(0, np.sqrt(np.diag(sigma))).logpdf(z.numpy()))
    draws = prior().sample(40_000, torch.Generator().manual_seed(0)).numpy()
    assert np.cov(draws.T) == pytest.approx(sigma, rel=0.05, abs=0.1)


def test_the_decoder_is_linear_with_loadings_of_the_identity():
    random = np.random.default_rng(0)
    coefficients = random.normal(size=(P, 2))
    batch = Batch.from_arrays(np.zeros((N, P)), random.normal(size=N), random.normal(size=(N, 2)), dtype=torch.float64)
    z = torch.randn(3, N, P, dtype=torch.float64)
    decoder = IdentityDecoder(coefficients)
    assert torch.allclose(decoder(z, batch), LinearDecoder(coefficients, np.eye(P))(z, batch))
    assert torch.equal(decoder.linear_map()[1], torch.eye(P, dtype=torch.float64))


def mixture(*, diagonal):
    """A mixture of three, and posteriors of all cells under each."""
    prior, found = NormalMixture(3, P), []
    random = np.random.default_rng(4)
    loc, scales = random.normal(size=(3, P)), np.stack([parts(seed)[2] for seed in range(3)])
    prior.place(random.dirichlet(np.ones(3)), loc, scales)
    for k in range(3):
        mean, weight, scale = parts(k)
        precision = np.linalg.inv(scale @ scale.T) + np.einsum("nj,jk->njk", weight, np.eye(P))
        variance = np.einsum("njj->nj", np.linalg.inv(precision))
        variance = 1 / np.einsum("njj->nj", precision) if diagonal else variance
        found.append(GeneSpacePosterior(mean, variance, weight, scale, diagonal=diagonal, center=loc[k]))
    return prior, MixturePosterior(random.dirichlet(np.ones(3), size=N), found)


@pytest.mark.parametrize("diagonal", [False, True])
def test_mixtures_diverge_as_dense_gaussians_do(diagonal):
    prior, posterior = mixture(diagonal=diagonal)
    total = prior.component_divergence(posterior.weights.numpy())
    for k, part in enumerate(posterior.components):
        one = torch.distributions.MultivariateNormal(torch.from_numpy(part.mean), torch.from_numpy(part.covariance))
        other = torch.distributions.MultivariateNormal(prior.loc[k], scale_tril=prior.scale[k])
        total += posterior.weights[:, k].numpy() * torch.distributions.kl_divergence(one, other).numpy()
    assert posterior.divergence(prior) == pytest.approx(total)
    some = posterior[[3, 1]]
    assert some.divergence(prior) == pytest.approx(total[[3, 1]])
    assert posterior.variance == pytest.approx(np.einsum("njj->nj", posterior.covariance))


def test_a_mixture_has_the_density_of_its_parts():
    prior, _ = mixture(diagonal=False)
    z = np.random.default_rng(1).normal(size=(7, P))
    weights = prior.log_weights.exp().numpy()
    expected = sum(
        w * multivariate_normal(m, s @ s.T).pdf(z)
        for w, m, s in zip(weights, prior.loc.numpy(), prior.scale.numpy(), strict=True)
    )
    assert prior.log_prob(torch.from_numpy(z)).numpy() == pytest.approx(np.log(expected))
    draws = prior.sample(100_000, torch.Generator().manual_seed(0)).numpy()
    assert draws.mean(0) == pytest.approx(weights @ prior.loc.numpy(), abs=0.05)
    assert np.cov(draws.T) == pytest.approx(prior.total_covariance().numpy(), abs=0.3)
