"""Draws from exact posteriors, against quadrature and against importance sampling."""

import numpy as np
import pytest
import torch

from scpln.inference import CountData, infer, sample_exact
from scpln.module import Batch, GaussianPosterior, Generative, LinearDecoder, make_likelihood


def make(q: int, *, n: int = 3, p: int = 4, likelihood: str = "poisson"):
    """Sparse counts of a few genes, a model, and the best Gaussian posteriors (for Poisson counts)."""
    rng = np.random.default_rng(1)
    b, c = rng.normal(-0.5, 0.5, (p, 1)), rng.normal(size=(p, q))
    counts = rng.poisson(np.exp(b.T + rng.normal(size=(n, q)) @ c.T)).astype(float)
    data = CountData(counts, np.zeros(n), np.ones((n, 1)))
    model = Generative(LinearDecoder(b, c), make_likelihood(likelihood, p)).double().requires_grad_(False)
    return data, model, GaussianPosterior(*infer(data, b, c, n_threads=1))


def draw(data, model, posterior, **options):
    return list(sample_exact(data, model, posterior, **{"n_samples": 600, "n_warmup": 150, **options}))


@pytest.mark.parametrize("likelihood", ["poisson", "zinb"])
def test_moments_are_those_of_quadrature(likelihood):
    data, model, posterior = make(1, n=1, likelihood=likelihood)
    poor = GaussianPosterior(posterior.mean + 1.0, 0.1 * posterior.packed_covariance)
    (chain,) = draw(data, model, poor)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    batch = Batch.from_arrays(data.counts, data.offsets, data.design, dtype=torch.float64)
    density = model.log_joint(z[:, None, None], batch)[:, 0].softmax(0).numpy()
    for power in (1, 2, 3):
        exact = density @ z.numpy() ** power
        error = (chain.z[:, 0] ** power).std() / np.sqrt(chain.ess)
        assert abs((chain.z[:, 0] ** power).mean() - exact) < 4.5 * error
    assert chain.r_hat < 1.05
    assert chain.ess > 100
    assert chain.divergences == 0


def test_moments_are_those_of_importance_weighted_draws():
    data, model, posterior = make(2, n=2)
    chains = draw(data, model, posterior)
    z, log_q = posterior.reparameterize(
        torch.randn(20_000, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    batch = Batch.from_arrays(data.counts, data.offsets, data.design, dtype=torch.float64)
    weights = (model.log_joint(z, batch) - log_q).softmax(0)[..., None].numpy()
    z = z.numpy()
    exact = (weights * z).sum(0)
    spread = np.sqrt((weights * (z - exact) ** 2).sum(0))
    for i, chain in enumerate(chains):
        error = spread[i] / np.sqrt(chain.ess)
        assert (np.abs(chain.z.mean(0) - exact[i]) < 4.5 * error).all()
        np.testing.assert_allclose(chain.z.std(0), spread[i], rtol=0.2)


def test_a_chain_is_its_seeds_and_its_cells():
    data, model, posterior = make(1)
    state = torch.random.get_rng_state()
    options = {"n_samples": 10, "n_warmup": 10}
    first, again, other = (draw(data, model, posterior, seed=seed, **options) for seed in (0, 0, 1))
    (alone,) = draw(
        CountData(data.counts[2:], data.offsets[2:], data.design[2:]),
        model,
        posterior[2:],
        positions=np.array([2]),
        **options,
    )
    for i in range(3):
        np.testing.assert_array_equal(first[i].z, again[i].z)
        assert (first[i].z != other[i].z).any()
    np.testing.assert_allclose(alone.z, first[2].z)
    assert torch.equal(torch.random.get_rng_state(), state), "the user's own random numbers go on as before"
