"""The reported bound, against independent computations."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from scpln.inference import CountData, elbo, fit, infer

from . import reference
from .conftest import draw


def random_posteriors(n: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    root = 0.3 * random.standard_normal((n, q, q)) + 0.5 * np.eye(q)
    full = np.einsum("nab,ncb->nac", root, root)
    rows, columns = np.tril_indices(q)
    return random.standard_normal((n, q)), full[:, rows, columns]


def test_equals_torch_reference():
    data, truth = draw(50, 30, 3, 2)
    mean, packed = random_posteriors(50, 3)
    ours = elbo(data, truth["coefficients"], truth["loadings"], mean, packed)
    theirs = reference.elbo(
        data,
        torch.as_tensor(truth["coefficients"]),
        torch.as_tensor(truth["loadings"]),
        torch.as_tensor(mean),
        reference.unpack(packed, 3),
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-10)


def test_equals_monte_carlo_with_scipy_probabilities():
    data, truth = draw(3, 10, 2)
    mean, packed = random_posteriors(3, 2)
    ours = elbo(data, truth["coefficients"], truth["loadings"], mean, packed)
    counts = data.rows(0, 3).toarray()
    for i in range(3):
        covariance = reference.unpack(packed[i : i + 1], 2)[0].numpy()
        z = np.random.default_rng(i).multivariate_normal(mean[i], covariance, size=200_000)
        log_rates = data.offsets[i] + data.design[i] @ truth["coefficients"].T + z @ truth["loadings"].T
        weights = stats.poisson.logpmf(counts[i], np.exp(log_rates)).sum(1) + stats.norm.logpdf(z).sum(1)
        weights -= stats.multivariate_normal.logpdf(z, mean[i], covariance)
        standard_error = weights.std() / np.sqrt(len(weights))
        assert abs(weights.mean() - ours[i]) < 5 * standard_error


def test_log_factorial_is_exact_for_large_counts():
    counts = np.array([[0, 1, 2, 1000, 1023, 1024, 10**6]], float)
    data = CountData(counts, np.zeros(1), np.ones((1, 1)))
    rates = np.log(np.maximum(counts[0], 0.5))[:, None]
    ours = elbo(data, rates, np.zeros((7, 1)), np.zeros((1, 1)), np.ones((1, 1)))
    np.testing.assert_allclose(ours, stats.poisson.logpmf(counts[0], np.exp(rates[:, 0])).sum(), rtol=1e-9)


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_below_and_near_the_log_likelihood_by_quadrature(posterior):
    data, truth = draw(40, 15, 1, level=-0.5)
    mean, packed = infer(data, truth["coefficients"], truth["loadings"], posterior=posterior)
    bound = elbo(data, truth["coefficients"], truth["loadings"], mean, packed)
    z = np.linspace(-10, 10, 4001)
    log_rates = (data.offsets[:, None] + data.design @ truth["coefficients"].T)[:, :, None] + truth["loadings"][
        :, :1
    ] * z
    log_joint = stats.poisson.logpmf(data.rows(0, 40).toarray()[:, :, None], np.exp(log_rates)).sum(
        1
    ) + stats.norm.logpdf(z)
    log_likelihood = logsumexp(log_joint, axis=1) + np.log(z[1] - z[0])
    assert (bound < log_likelihood).all()
    assert (log_likelihood - bound).mean() < 0.02


def test_full_rank_is_at_least_mean_field(small):
    full = fit(small, 3)
    mean, packed = infer(small, full.coefficients, full.loadings, posterior="meanfield")
    mean_field = elbo(small, full.coefficients, full.loadings, mean, packed)
    assert (full.elbo >= mean_field - 1e-5).all()
    assert full.elbo.mean() > mean_field.mean() + 1e-3


@pytest.mark.parametrize("batch_size", [1, 7, 64, None])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_does_not_depend_on_blocks_or_threads(batch_size, n_threads):
    data, truth = draw(65, 20, 2)
    mean, packed = random_posteriors(65, 2)
    parts = {"batch_size": batch_size, "n_threads": n_threads}
    expected = elbo(data, truth["coefficients"], truth["loadings"], mean, packed)
    actual = elbo(data, truth["coefficients"], truth["loadings"], mean, packed, **parts)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
