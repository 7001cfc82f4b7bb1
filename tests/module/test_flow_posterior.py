"""Posteriors with tensors inside and arrays outside: every family has the same properties."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import special_ortho_group

from scpln.module import FlowPosterior, GaussianPosterior, Posterior

from .conftest import KINDS, N_CONTEXT, random_flow, random_gaussian

N, Q = 3, 2

every_family = pytest.mark.parametrize("name", ["gaussian", *KINDS])


def make(name: str, *, by: float = 0.2, n: int = N, q: int = Q) -> Posterior:
    gaussian = random_gaussian(n, q)
    if name == "gaussian":
        return gaussian
    frame = special_ortho_group.rvs(q, random_state=0) if q > 1 else np.eye(1)
    context = torch.randn(n, N_CONTEXT, generator=torch.Generator().manual_seed(1))
    return FlowPosterior(gaussian, random_flow(name, q, by=by), context, torch.from_numpy(frame))


@every_family
def test_shapes_and_types(name):
    posterior = make(name)
    assert len(posterior) == N
    assert posterior.n_latent == Q
    z = posterior.sample(7, seed=1)
    assert z.shape == (7, N, Q)
    assert posterior.mean.shape == posterior.variance.shape == (N, Q)
    assert posterior.covariance.shape == (N, Q, Q)
    assert z.dtype == posterior.mean.dtype == posterior.covariance.dtype == np.float64
    np.testing.assert_array_equal(posterior.variance, posterior.covariance.diagonal(axis1=1, axis2=2))
    np.testing.assert_array_equal(posterior.packed_covariance, posterior.covariance[:, *np.tril_indices(Q)])
    assert repr(posterior).startswith(f"{type(posterior).__name__}(3 cells, 2 latent dimensions")


@every_family
def test_seeds(name):
    posterior = make(name)
    np.testing.assert_array_equal(posterior.sample(3, seed=4), posterior.sample(3, seed=4))
    assert (posterior.sample(3, seed=4) != posterior.sample(3, seed=5)).all()


@every_family
@pytest.mark.parametrize("q", [2, 3])
def test_draws_have_the_density_that_is_theirs(name, q):
    posterior = make(name, q=q)
    z, log_q = posterior.reparameterize(torch.randn(2, 5, N, q, dtype=torch.float64).flatten(0, 1))
    np.testing.assert_allclose(posterior.log_prob(z), log_q, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(posterior.log_prob(z[0]), log_q[0], rtol=1e-7, atol=1e-7)
    several = posterior.log_prob(z.unflatten(0, (2, 5)))
    np.testing.assert_allclose(several, log_q.unflatten(0, (2, 5)), rtol=1e-7, atol=1e-7)


@every_family
def test_the_density_integrates_to_one(name):
    """E_q[p / q] = 1 for a density p, here a Gaussian that is narrower than the posterior q."""
    posterior = make(name)
    noise = torch.randn(20_000, N, Q, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, log_q = posterior.reparameterize(noise)
    narrow = GaussianPosterior(posterior.mean, 0.3 * posterior.packed_covariance)
    ratio = np.exp(narrow.log_prob(z) - log_q.numpy())
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert (np.abs(ratio.mean(0) - 1) < 5 * error).all()
    assert (error < 0.1).all()


@every_family
def test_moments_are_those_of_many_draws(name):
    posterior = make(name)
    z = posterior.sample(40_000, seed=2)
    sd = np.sqrt(posterior.variance)
    np.testing.assert_allclose((z.mean(0) - posterior.mean) / sd, 0, atol=0.05)
    scaled = np.stack([np.cov(z[:, i].T) for i in range(N)]) / (sd[:, :, None] * sd[:, None, :])
    correlation = posterior.covariance / (sd[:, :, None] * sd[:, None, :])
    np.testing.assert_allclose(scaled, correlation, atol=0.1)


def test_moments_of_an_affine_flow_are_exact():
    """Their mean is where the noise 0 goes, and the columns of a root of their covariance where unit vectors go."""
    posterior = make("affine")
    mean, *units = posterior.reparameterize(
        torch.cat([torch.zeros(1, Q), torch.eye(Q)]).double()[:, None].expand(-1, N, -1)
    )[0]
    root = torch.stack([unit - mean for unit in units], dim=-1)
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-12)
    np.testing.assert_allclose(posterior.covariance, root @ root.mT, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_the_identity_is_the_gaussian(name):
    posterior = make(name, by=0.0)
    rotated = posterior.gaussian.rotate(posterior.frame)
    np.testing.assert_allclose(posterior.mean, rotated.mean, atol=1e-6)
    np.testing.assert_allclose(posterior.covariance, rotated.covariance, atol=1e-6)
    z, log_q = posterior.reparameterize(torch.randn(4, N, Q, dtype=torch.float64))
    np.testing.assert_allclose(log_q, rotated.log_prob(z), atol=1e-6)


@every_family
@pytest.mark.parametrize("cells", [slice(1, None), [2, 0, 2], np.array([True, False, True]), -1])
def test_some_of_the_cells(name, cells):
    posterior = make(name)
    chosen = np.atleast_1d(np.arange(N)[cells])
    part = posterior[cells]
    noise = torch.randn(3, N, Q, dtype=torch.float64)
    for ours, whole in zip(part.reparameterize(noise[:, chosen]), posterior.reparameterize(noise), strict=True):
        np.testing.assert_allclose(ours, whole[:, chosen], atol=1e-12)
    np.testing.assert_allclose(part.mean, posterior.mean[chosen], atol=1e-12)
    again = posterior[cells]  # now that the whole knows its moments
    np.testing.assert_allclose(again.covariance, posterior.covariance[chosen], atol=1e-12)
    assert len(part) == len(again) == len(chosen)


def test_a_copy_of_the_flow_is_on_its_own():
    posterior = make("iaf")
    flow = posterior.flow_as(torch.float32)
    with torch.no_grad():
        for parameter in flow.parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad
            parameter.zero_()
    np.testing.assert_array_equal(posterior.sample(2), make("iaf").sample(2))
    other = posterior.on(random_gaussian(N, Q, seed=5))
    assert (other.mean != posterior.mean).all()


@pytest.mark.parametrize("q", [1, 150])
def test_any_number_of_dimensions_has_moments(q):
    posterior = make("affine", by=0.0, n=2, q=q)
    expected = posterior.gaussian.rotate(posterior.frame)
    np.testing.assert_allclose(posterior.covariance, expected.covariance, rtol=1e-6, atol=1e-6)
