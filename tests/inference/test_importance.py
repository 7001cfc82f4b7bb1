"""Importance weights against SciPy, and what is read off them against distributions whose tails are known."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, poisson

from scpln.inference import CountData, fit, log_weights, summarize_weights
from scpln.inference.sampling import _importance
from scpln.module import GaussianPosterior, Generative, LinearDecoder, make_likelihood

from .conftest import draw


@pytest.fixture(scope="module")
def fitted():
    """Counts, a model of them, and posteriors of 60 cells."""
    data, _ = draw(60, 10, 2, 2)
    result = fit(data, 2, n_threads=1)
    decoder = LinearDecoder(result.coefficients, result.loadings)
    model = Generative(decoder, make_likelihood("poisson", 10)).double()
    return data, model, GaussianPosterior(result.mean, result.covariance)


def weigh(data, model, posterior, **options) -> np.ndarray:
    """Log-weights of all cells, (K, n)."""
    blocks = log_weights(data, model, posterior, **{"n_samples": 50, "n_threads": 1, **options})
    return np.concatenate([weights for _, weights in blocks], axis=1)


def test_weights_are_scipys(fitted):
    data, model, posterior = fitted
    weights = weigh(data, model, posterior, n_samples=3)
    b, c = model.decoder.coefficients.detach().numpy(), model.decoder.loadings.detach().numpy()
    streams = [np.random.Generator(np.random.Philox(key=np.array([0, i], np.uint64))) for i in range(60)]
    noise = np.stack([stream.standard_normal((3, 2)) for stream in streams], axis=1)
    z = posterior.mean + np.einsum("nab,knb->kna", np.linalg.cholesky(posterior.covariance), noise)
    eta = data.offsets[:, None] + data.design @ b.T + z @ c.T
    log_p = poisson(np.exp(eta)).logpmf(data.rows(0, 60).toarray()).sum(-1) + multivariate_normal(np.zeros(2)).logpdf(z)
    np.testing.assert_allclose(weights, log_p - posterior.log_prob(z), rtol=1e-10)


def test_blocks_threads_and_other_cells_do_not_matter(fitted, monkeypatch):
    data, model, posterior = fitted
    expected = weigh(data, model, posterior)
    np.testing.assert_array_equal(weigh(data, model, posterior, n_threads=3), expected)
    chosen = np.array([40, 3, 17])
    part = CountData(data.counts[chosen], data.offsets[chosen], data.design[chosen])
    alone = weigh(part, model, posterior[chosen], positions=chosen)
    np.testing.assert_allclose(alone, expected[:, chosen], rtol=1e-12)
    for cells, drawn, entries in ((7, 64, 1), (1, 1, 50), (60, 300, 10**6)):
        monkeypatch.setattr(_importance, "_CELLS", cells)
        monkeypatch.setattr(_importance, "_DRAWN", drawn)
        monkeypatch.setattr(_importance, "_ENTRIES", entries)
        np.testing.assert_allclose(weigh(data, model, posterior), expected, rtol=1e-12)
        np.testing.assert_allclose(weigh(data, model, posterior, n_threads=2), expected, rtol=1e-12)


def test_threads_are_given_back(fitted):
    before = torch.get_num_threads()
    weigh(*fitted, n_threads=2)
    assert torch.get_num_threads() == before


def test_seeds(fitted):
    first, again, other = (weigh(*fitted, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert len(np.unique(first)) == first.size, "every cell has draws of its own"
    more = weigh(*fitted, n_samples=80)
    np.testing.assert_array_equal(more[:50], first)


def test_bound_and_effective_sample_size():
    log_weights = np.random.default_rng(0).normal(size=(200, 3)) - 1e5
    summary = summarize_weights(log_weights)
    weights = np.exp(log_weights + 1e5)
    np.testing.assert_allclose(summary.iw_bound, logsumexp(log_weights, axis=0) - np.log(200))
    np.testing.assert_allclose(summary.ess, weights.sum(0) ** 2 / (weights**2).sum(0) / 200, rtol=1e-8)
    assert summary.pareto_k.size == 0
    one = np.where(np.arange(200) == 7, 0.0, -1e6)[:, None]
    np.testing.assert_allclose(summarize_weights(one).ess, 1 / 200)


@pytest.mark.parametrize("k", [0.3, 0.5, 1.0, 1.5])
def test_the_tail_of_pareto_weights_is_theirs(k):
    """Weights e^{kE} with E ~ Exp(1) exceed x with probability x^{-1/k}: their tail has shape k."""
    log_weights = k * np.random.default_rng(0).exponential(size=(4000, 30))
    assert summarize_weights(log_weights, tail=True).pareto_k.mean() == pytest.approx(k, abs=0.08)


def test_a_posterior_that_is_too_narrow_has_a_heavy_tail():
    """Under q = N(0, s²) for p = N(0, 1), weights are bounded for s > 1, and of shape 1 − s² in the limit for s < 1."""
    z = np.random.default_rng(0).normal(size=(4000, 30))

    def shape(s):
        log_weights = -0.5 * (s * z) ** 2 + 0.5 * z**2 + np.log(s)
        return summarize_weights(log_weights, tail=True).pareto_k.mean()

    assert shape(2.0) < 0 < shape(0.8) < shape(0.6) < shape(0.3) == pytest.approx(0.91, abs=0.15)
    assert shape(0.3) > 0.7 > shape(0.8)


def test_weights_without_a_tail_to_fit():
    rng = np.random.default_rng(0)
    equal, usual = np.full(500, -7.0), rng.normal(size=500)
    ties = np.where(np.arange(500) < 400, -1.0, 0.0)
    one = 1e5 * rng.exponential(size=500)  # all but the largest weight are 0
    impossible = np.where(np.arange(500) < 490, -np.inf, usual)
    nothing = np.where(np.arange(500) == 0, np.nan, usual)
    log_weights = np.column_stack([equal, ties, usual, one, impossible, nothing])
    *shapes, last = summarize_weights(log_weights, tail=True).pareto_k
    assert shapes[:2] == [-np.inf, -np.inf]
    assert np.isfinite(shapes[2])
    assert shapes[3:] == [np.inf, np.inf]
    assert last == np.inf
    assert np.isnan(summarize_weights(log_weights[:24, :3], tail=True).pareto_k).all()
    assert np.isfinite(summarize_weights(usual[:25, None], tail=True).pareto_k)
