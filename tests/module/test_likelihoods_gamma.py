"""Log-gamma functions of counts against SciPy."""

import numpy as np
import pytest
import torch
from scipy import special

from scpln.module.likelihoods._gamma import N_FACTORIALS, log_binomial, log_factorial

Y = np.r_[1:12, 100.0, 1e4, 1e6, 0.3, 1.5, 7.25]
LOG_THETA = np.linspace(-10, 15, 11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_factorial(dtype):
    for y in (Y, Y[:11], np.arange(N_FACTORIALS + 2.0), np.zeros(3), np.zeros(0), np.arange(6.0).reshape(2, 3)):
        y = torch.from_numpy(y).to(dtype)
        np.testing.assert_allclose(log_factorial(y), special.gammaln(y.double().numpy() + 1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_log_binomial_and_its_derivative(shape):
    y, log_theta = (grid.ravel() for grid in np.meshgrid(Y, LOG_THETA))
    theta = np.exp(log_theta)
    given = torch.from_numpy(np.broadcast_to(log_theta, (*shape, len(log_theta))).copy()).requires_grad_()
    value = log_binomial(torch.from_numpy(y), given)
    (slope,) = torch.autograd.grad(value.sum(), given)
    # Differences of numbers up to θ log θ.
    expected = special.gammaln(y + theta) - special.gammaln(theta) - special.gammaln(y + 1)
    np.testing.assert_allclose(value.detach(), np.broadcast_to(expected, value.shape), rtol=1e-9, atol=1e-7)
    expected = theta * (special.digamma(y + theta) - special.digamma(theta))
    np.testing.assert_allclose(slope, np.broadcast_to(expected, value.shape), rtol=1e-6, atol=1e-8)


def test_small_counts_are_products():
    log_theta = torch.from_numpy(LOG_THETA)
    theta = log_theta.exp()
    for y, product in ((1.0, theta), (2.0, theta * (theta + 1) / 2), (3.0, theta * (theta + 1) * (theta + 2) / 6)):
        torch.testing.assert_close(
            log_binomial(torch.full_like(theta, y), log_theta), product.log(), rtol=1e-13, atol=1e-13
        )


def test_nothing_in_nothing_out():
    nothing = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    assert log_binomial(nothing.detach(), nothing).shape == (0,)
