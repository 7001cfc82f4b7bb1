"""GaussianPosterior against SciPy, and its draws against its moments."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from scpln.module import GaussianPosterior


def make_posterior(n: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, GaussianPosterior]:
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(n, q))
    root = rng.normal(size=(n, q, q))
    covariance = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(q)
    rows, columns = np.tril_indices(q)
    return mean, covariance, GaussianPosterior(mean, covariance[:, rows, columns])


@pytest.mark.parametrize("q", [1, 2, 5])
def test_moments_are_those_given(q):
    mean, covariance, posterior = make_posterior(4, q)
    np.testing.assert_array_equal(posterior.mean, mean)
    np.testing.assert_allclose(posterior.covariance, covariance)
    np.testing.assert_allclose(posterior.variance, covariance.diagonal(axis1=1, axis2=2))
    assert posterior.mean.dtype == posterior.covariance.dtype == np.float64


@pytest.mark.parametrize("q", [1, 2, 5])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_log_prob_is_scipys(q, leading):
    mean, covariance, posterior = make_posterior(4, q)
    z = np.random.default_rng(1).normal(size=(*leading, 4, q))
    expected = np.stack([multivariate_normal(mean[i], covariance[i]).logpdf(z[..., i, :]) for i in range(4)], axis=-1)
    np.testing.assert_allclose(posterior.log_prob(z), expected.reshape(*leading, 4), rtol=1e-10)


def test_draws_have_the_moments():
    mean, covariance, posterior = make_posterior(3, 3)
    n = 40_000
    z = posterior.sample(n, seed=0)
    assert z.shape == (n, 3, 3)
    error_of_mean = np.sqrt(posterior.variance / n)
    assert (np.abs(z.mean(0) - mean) < 5 * error_of_mean).all()
    variance = posterior.variance
    error_of_covariance = np.sqrt((variance[:, :, None] * variance[:, None, :] + covariance**2) / n)
    for i in range(3):
        assert (np.abs(np.cov(z[:, i].T) - covariance[i]) < 5 * error_of_covariance[i]).all()


def test_draws_repeat_with_their_seed_only():
    posterior = make_posterior(3, 2)[2]
    np.testing.assert_array_equal(posterior.sample(5, seed=7), posterior.sample(5, seed=7))
    assert not np.array_equal(posterior.sample(5, seed=7), posterior.sample(5, seed=8))


@pytest.mark.parametrize("cells", [[2, 0], slice(1, 3), np.array([True, False, True, False]), 3])
def test_indexing_takes_cells(cells):
    mean, covariance, posterior = make_posterior(4, 2)
    chosen = np.atleast_1d(np.arange(4)[cells])
    part = posterior[cells]
    assert len(part) == len(chosen)
    np.testing.assert_array_equal(part.mean, mean[chosen])
    np.testing.assert_allclose(part.covariance, covariance[chosen])


def test_covariance_that_rounding_made_indefinite_still_draws():
    packed = np.array([[1.0, 1.0, 1.0 - 1e-8]])
    posterior = GaussianPosterior(np.zeros((1, 2)), packed)
    assert np.linalg.eigvalsh(posterior.covariance[0]).min() < 0
    assert np.isfinite(posterior.sample(10)).all()
    assert np.isfinite(posterior.log_prob(np.zeros((1, 2)))).all()


def test_wrong_shape_is_named():
    with pytest.raises(
        ValueError, match=r"mean has shape \(3, 2\), so covariance must be .*\(3, 3\); it has .*\(3, 2\)"
    ):
        GaussianPosterior(np.zeros((3, 2)), np.zeros((3, 2)))


def test_repr():
    assert repr(make_posterior(4, 2)[2]) == "GaussianPosterior(4 cells, 2 latent dimensions)"
