"""Poisson log-normal counts: what Laplace's approximation misses, limits, and accuracy where it is promised."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from scpln.module import CountBatch
from scpln.module.likelihoods import PoissonLogNormal
from scpln.module.likelihoods._laplace import (
    LARGEST_SD,
    LaplaceCorrection,
    correction_by_quadrature,
    mode_shift,
    quadrature,
)

from .test_likelihoods import log_poisson_lognormal

SD = [1e-4, 0.01, 0.3, 1.0, 2.0]


def with_sd(sd: float, dtype: torch.dtype = torch.float64) -> PoissonLogNormal:
    likelihood = PoissonLogNormal(1).to(dtype)
    share = np.clip((sd - 1e-4) / (LARGEST_SD - 1e-4), 1e-17, 1)
    likelihood.sd_logits.data.fill_(float(special.logit(share)))
    return likelihood


def grid() -> tuple[np.ndarray, np.ndarray]:
    y, eta = np.meshgrid([0, 1, 2, 10, 100, 1e4, 1e5], np.linspace(-20, 20, 41), indexing="ij")
    return y.ravel(), eta.ravel()


def of_entries(likelihood: PoissonLogNormal, y: np.ndarray, eta: torch.Tensor) -> torch.Tensor:
    """Log-probability of entries by the fast path."""
    dtype = likelihood.sd_logits.dtype
    return likelihood.log_likelihood(eta.to(dtype)[:, None], CountBatch.from_counts(y[:, None], dtype))


@pytest.mark.parametrize("sd", SD)
def test_log_probabilities_are_within_a_millionth_of_a_nat(sd):
    y, eta = grid()
    likelihood = with_sd(sd)
    expected = log_poisson_lognormal(y, eta, float(likelihood.gene_parameters()["log_rate_sd"]))
    for found in (
        of_entries(likelihood, y, torch.from_numpy(eta)),
        likelihood.log_prob(torch.from_numpy(eta)[:, None], torch.from_numpy(y)[:, None])[:, 0],
    ):
        # Beyond that, terms such as e²⁰ = 5·10⁸ have their rounding.
        np.testing.assert_allclose(found.detach(), expected, rtol=2e-15, atol=1e-7)


@pytest.mark.parametrize("sd", [0.01, 0.3, 1.0, 2.0])
def test_slopes_are_expectations_under_what_the_count_leaves_possible(sd):
    """Fisher's identity: the slope by η is E[y − rate | y], that by log σ is E[(y − rate) σ t | y]."""
    y, rates = grid()
    likelihood, eta = with_sd(sd), torch.from_numpy(rates).requires_grad_()
    by_eta, by_logits = torch.autograd.grad(
        of_entries(likelihood, y, eta).sum(), [eta, likelihood.sd_logits], retain_graph=True
    )
    sd = float(likelihood.gene_parameters()["log_rate_sd"])
    low, high = np.minimum(rates, np.log(np.maximum(y, 1e-3))) - 20, np.maximum(rates, np.log(np.maximum(y, 1e-3))) + 20
    for _ in range(80):
        mode = (low + high) / 2
        rises = y - np.exp(mode) > (mode - rates) / sd**2
        low, high = np.where(rises, mode, low), np.where(rises, high, mode)
    width = 1 / np.sqrt(np.exp(mode) + sd**-2)
    shift = width[:, None] * np.linspace(-60, 12, 7201)
    slope = y - np.exp(mode) - (mode - rates) / sd**2
    log_weights = slope[:, None] * shift - np.exp(mode)[:, None] * (np.expm1(shift) - shift) - (shift / sd) ** 2 / 2
    weights = special.softmax(log_weights, axis=1)
    residual = y[:, None] - np.exp(mode[:, None] + shift)
    scale = 1 + y + np.exp(mode)
    np.testing.assert_allclose(by_eta.numpy() / scale, (weights * residual).sum(1) / scale, atol=1e-8)
    log_rate = mode[:, None] + shift - rates[:, None]
    by_log_sd = (weights * residual * log_rate).sum()
    share = (sd - 1e-4) / (LARGEST_SD - 1e-4)
    expected = by_log_sd / sd * (LARGEST_SD - 1e-4) * share * (1 - share)
    assert by_logits.item() == pytest.approx(expected, rel=1e-7)


def test_without_disturbance_counts_are_poisson():
    y, eta = grid()
    usual = (y <= 100) & (np.abs(eta - np.log(np.maximum(y, 0.5))) < 1)
    y, eta = y[usual], eta[usual]
    found = of_entries(with_sd(1e-4), y, torch.from_numpy(eta)).detach().numpy()
    rate = np.exp(eta)
    # to first order in σ², as the expectation of the Poisson probability has it
    expected = stats.poisson.logpmf(y, rate) + 1e-8 / 2 * (np.square(y - rate) - rate)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("sd", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("eta", [-4.0, 0.0, 1.0])
def test_probabilities_add_up_to_one(sd, eta):
    """Those of counts up to a million; of more, what a normal log-rate leaves beyond."""
    y = np.unique(np.r_[np.arange(3000), np.round(np.geomspace(3000, 1e6, 4000))])
    log_p = of_entries(with_sd(sd), y, torch.full(y.shape, eta, dtype=torch.float64)).detach().numpy()
    small = np.exp(log_p[:3000]).sum()
    between = np.trapezoid(np.exp(log_p[2999:]) * y[2999:], np.log(y[2999:]))
    beyond = stats.norm.sf((np.log(1e6) - eta) / sd)
    assert small + between + beyond == pytest.approx(1, abs=3e-6)


@pytest.mark.parametrize(("dtype", "at_two", "at_three"), [(torch.float32, 1e-6, 1e-5), (torch.float64, 3e-10, 1e-7)])
def test_polynomial_is_the_correction(dtype, at_two, at_three):
    w = torch.logspace(-12, 8, 400, dtype=torch.float64).to(dtype)[:, None]
    for largest, tolerance in ((2.0, at_two), (3.0, at_three)):
        sd = torch.linspace(0.01, largest, 23, dtype=torch.float64).to(dtype)
        expected = correction_by_quadrature(w.double().numpy(), sd.double().numpy())
        found = LaplaceCorrection(sd.log()).value(w.expand(-1, 23).contiguous())
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_correction_is_that_of_stirlings_formula_for_large_w():
    """With σ²λ large the prior is flat, and ∫ exp(y u − eᵘ) du = Γ(y), whose logarithm Stirling's series gives."""
    w, sd = np.array([1e5]), np.array([2.0])
    np.testing.assert_allclose(correction_by_quadrature(w, sd), 1 / (12 * w / sd**2), rtol=1e-3)


def test_mode_is_wrights_omega_function():
    q = torch.linspace(-60, 60, 2001, dtype=torch.float64)
    shift = mode_shift(q, torch.zeros_like(q), torch.zeros(1, dtype=torch.float64))
    np.testing.assert_allclose(-shift, special.wrightomega(q.numpy()).real, rtol=1e-13)
    single = mode_shift(q.float(), torch.zeros(2001), torch.zeros(1))
    np.testing.assert_allclose(single, shift, rtol=2e-6)


def test_nodes_integrate_moments_of_the_normal_distribution():
    z, log_weights = quadrature()
    density = stats.norm.pdf(z) * np.exp(log_weights)
    np.testing.assert_allclose([density @ z**k for k in range(7)], [1, 0, 1, 0, 3, 0, 15], atol=1e-12)


def test_start_is_near_the_truth():
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.3, 1.2, 100)
    eta = rng.normal(size=(2000, 100)) * 0.5 + rng.uniform(-1, 3, 100)
    y = rng.poisson(np.exp(eta + sd * rng.normal(size=eta.shape)))
    likelihood = PoissonLogNormal(100)
    likelihood.initialise([(CountBatch.from_counts(y), torch.from_numpy(np.exp(eta + sd**2 / 2)))])
    found = likelihood.gene_parameters()["log_rate_sd"].numpy()
    assert np.median(np.abs(found / sd - 1)) < 0.15
    assert np.corrcoef(found, sd)[0, 1] > 0.8


def test_offset_of_the_mean():
    likelihood, eta = with_sd(0.7), torch.linspace(-3, 3, 5).double()[:, None]
    torch.testing.assert_close(likelihood.mean(eta).log() - eta, likelihood.log_mean_offset().expand(5, 1))
