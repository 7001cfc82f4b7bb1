"""Counts whose small values have probabilities of their own."""

import numpy as np
import pytest
import torch
from scipy import stats

from scpln.module import CountBatch
from scpln.module.likelihoods import Gaussian, PiecewiseCategorical, Poisson, make_likelihood

LOGITS = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)


def make(name, k_max, p=1):
    """A likelihood with some logits, and with θ = 2 and π = 0.3 where it has them."""
    likelihood = make_likelihood(name, p, k_max).double()
    values = {"log_inverse_dispersion": np.log(2.0), "gate_logits": np.log(3 / 7)}
    for k, name in enumerate(likelihood.cell_parameter_names):
        values[name] = float(LOGITS[k % 3])
    for parameter_name, parameter in likelihood._unconstrained().items():
        parameter.data.fill_(values[parameter_name])
    return likelihood


def brute_force(name, k_max, y, eta):
    weights = np.exp([*(float(LOGITS[k % 3]) for k in range(k_max)), 0.0])
    pi, mu = weights / weights.sum(), np.exp(eta)
    base = stats.nbinom(2.0, 2 / (2 + mu)) if "nb" in name else stats.poisson(mu)
    excess = base.pmf(np.maximum(y - k_max, 0))
    if name.startswith("zi"):
        excess = 0.7 * excess + 0.3 * (y == k_max)
    return np.where(y < k_max, pi[np.minimum(y, k_max)], pi[k_max] * excess)


@pytest.mark.parametrize("name", ["poisson", "nb", "zip", "zinb"])
@pytest.mark.parametrize("k_max", [1, 3, 12])
def test_probabilities_are_those_by_hand(name, k_max):
    y, likelihood = np.arange(1500), make(name, k_max)
    for eta in (-4.0, 0.5, 3.0):
        expected = brute_force(name, k_max, y, eta)
        log_rates = torch.full((len(y), 1), eta, dtype=torch.float64)
        log_prob = likelihood.log_prob(log_rates, torch.from_numpy(y)[:, None]).detach()[:, 0]
        fast = likelihood.log_likelihood(log_rates, CountBatch.from_counts(y[:, None], torch.float64)).detach()
        np.testing.assert_allclose(log_prob.exp(), expected, rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(fast.exp(), expected, rtol=1e-9, atol=1e-300)
        assert fast.exp().sum() == pytest.approx(1, abs=1e-9)
        mean = expected @ y
        assert likelihood.mean(log_rates[:1]).item() == pytest.approx(mean)
        assert likelihood.variance(log_rates[:1]).item() == pytest.approx(expected @ (y - mean) ** 2)


@pytest.mark.parametrize("k_max", [1, 3])
def test_small_counts_say_nothing_of_the_rate(k_max):
    likelihood, eta = make("nb", k_max, p=2), torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    y = np.arange(8).reshape(4, 2) % k_max
    total = likelihood.log_likelihood(eta, CountBatch.from_counts(y, torch.float64)).sum()
    by_eta, by_theta = torch.autograd.grad(total, [eta, likelihood.base.log_inverse_dispersion])
    assert (by_eta == 0).all()
    assert (by_theta == 0).all()


@pytest.mark.parametrize("name", ["poisson", "nb", "zinb"])
def test_start_is_at_the_shares_and_at_the_base_of_the_others(name):
    rng, n, p = np.random.default_rng(0), 4000, 20
    mu = np.exp(rng.normal(size=(n, p)) * 0.3 + np.linspace(0, 3, p))
    excess = rng.poisson(rng.gamma(2.0, mu / 2.0)) if "nb" in name else rng.poisson(mu)
    pi = np.array([0.5, 0.2, 0.3])
    category = rng.choice(3, size=(n, p), p=pi)
    y = np.where(category == 2, 2 + excess, category)
    likelihood = make_likelihood(name, p, 2)
    expected = np.where(category == 2, 2 + mu, category)
    likelihood.initialise([(CountBatch.from_counts(y), torch.from_numpy(expected))])
    found = {name: value.numpy() for name, value in likelihood.gene_parameters().items()}
    np.testing.assert_allclose(found["probability_0"], 0.5, atol=0.05)
    np.testing.assert_allclose(found["probability_1"], 0.2, atol=0.05)
    if name == "nb":
        assert abs(np.median(np.log(found["inverse_dispersion"][-10:] / 2))) < 0.5


def test_start_in_parts_is_the_start_at_once():
    rng = np.random.default_rng(0)
    y, expected = rng.poisson(2.0, size=(50, 4)), torch.full((50, 4), 2.0)
    whole, parts = make_likelihood("zinb", 4, 2), make_likelihood("zinb", 4, 2)
    whole.initialise([(CountBatch.from_counts(y), expected)])
    parts.initialise((CountBatch.from_counts(y[i : i + 20]), expected[i : i + 20]) for i in (0, 20, 40))
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("k_max", [1, 5, 100])
@pytest.mark.parametrize("rate", [0.0, 1e-12, 1.0, 1e5])
def test_start_is_finite(k_max, rate):
    y = np.random.default_rng(0).poisson(rate, size=(30, 3))
    y[0] = k_max + 2
    likelihood = make_likelihood("zinb", 3, k_max)
    likelihood.initialise([(CountBatch.from_counts(y), torch.full((30, 3), rate, dtype=torch.float64))])
    assert all(parameter.isfinite().all() for parameter in likelihood.parameters())
    assert all(parameter.abs().max() < 7 for parameter in likelihood.parameters())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="k_max=0, but one count or more"):
        make_likelihood("nb", 3, k_max=0)
    for name in ("Bernoulli", "Gaussian"):
        with pytest.raises(ValueError, match=rf"k_max=2 needs a likelihood of counts, .*; {name} is none"):
            make_likelihood(name.lower(), 3, k_max=2)
    with pytest.raises(ValueError, match="PiecewiseCategorical is none"):
        PiecewiseCategorical(PiecewiseCategorical(Poisson(2), 1), 1)
    with pytest.raises(ValueError, match="Gaussian is none"):
        PiecewiseCategorical(Gaussian(2), 1)
