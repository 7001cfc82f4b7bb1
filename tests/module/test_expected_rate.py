"""Means of bounded rates, against quadrature."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from scpln.module.likelihoods import expected_rate, soft_clamp

UPPER = 25.0


def by_quadrature(mean, variance):
    """The integral of the bounded rate, piece by piece, on the logarithmic scale of its largest value."""
    sd = np.sqrt(variance)
    scale = UPPER if mean + variance > UPPER else mean + variance / 2

    def integrand(eta):
        log_rate = float(soft_clamp(torch.tensor(eta, dtype=torch.float64), upper=UPPER))
        return np.exp(log_rate - scale - (eta - mean) ** 2 / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    edges = np.unique(np.concatenate([[UPPER], *(at + sd * np.linspace(-9, 9, 13) for at in (mean, mean + variance))]))
    return np.exp(scale) * sum(quad(integrand, a, b, epsabs=0, epsrel=1e-10)[0] for a, b in pairwise(edges))


@pytest.mark.parametrize(
    ("mean", "variance"), [(0, 1), (0, 25), (24, 3), (-50, 100), (20, 1), (0, 2000), (30, 0.01), (10, 15), (90, 5)]
)
def test_mean_is_the_integral(mean, variance):
    found = expected_rate(*(torch.tensor([float(x)], dtype=torch.float64) for x in (mean, variance)))
    np.testing.assert_allclose(found.item(), by_quadrature(mean, variance), rtol=1e-7)


def test_mean_is_finite_and_continuous_everywhere():
    grid = torch.tensor([-1e6, -50.0, 0.0, 24.999999, 25.0, 25.000001, 60.0, 1e8]).double()
    mean, variance = torch.meshgrid(grid, torch.tensor([0.0, 1e-12, 1.0, 90.0, 1e3, 1e9]).double(), indexing="ij")
    assert torch.isfinite(expected_rate(mean, variance)).all()
    certain = expected_rate(grid, torch.zeros_like(grid))
    torch.testing.assert_close(certain, soft_clamp(grid, upper=UPPER).exp())
    near = torch.linspace(5, 9, 4001).double()
    rates = expected_rate(near, torch.full_like(near, 4.0)).log()
    assert (rates.diff() - 0.001).abs().max() < 1e-6  # the switch between the formulas is not seen
