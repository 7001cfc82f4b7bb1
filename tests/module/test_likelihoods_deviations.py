"""Parameters of likelihoods that vary by cell."""

import numpy as np
import pytest
import torch

from scpln.module import CountBatch
from scpln.module.likelihoods import _blocks, make_likelihood

# Name, and k_max where small counts have probabilities of their own.
CASES = [("nb", None), ("zip", None), ("zinb", None), ("poisson_lognormal", None), ("gaussian", None)]
CASES += [("poisson", 1), ("nb", 3), ("zip", 2), ("zinb", 3), ("poisson_lognormal", 2)]
N, P = 7, 5


@pytest.fixture(params=CASES, ids=str)
def likelihood(request):
    name, k_max = request.param
    return random_likelihood(make_likelihood(name, P, k_max))


def random_likelihood(likelihood):
    rng = np.random.default_rng(0)
    for parameter in likelihood.double().parameters():
        parameter.data.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
    return likelihood


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    y = rng.poisson(rng.gamma(0.5, 6.0, size=(N, P))) * (rng.random((N, P)) < 0.7)
    return CountBatch.from_counts(y, torch.float64)


def by_name(likelihood, *shape):
    """A deviation of every parameter."""
    return {name: normal(*shape, seed=seed) for seed, name in enumerate(likelihood.parameter_names, 1)}


def shifted(likelihood, deviations):
    """A likelihood whose gene parameters have moved by these deviations, (p,) each."""
    moved = likelihood.subset(slice(None))
    with torch.no_grad():
        for name, value in moved._unconstrained().items():
            value += deviations.get(name, 0)
    return moved


def results(likelihood, eta, batch, **deviations):
    """Everything that a likelihood says, by cell and gene."""
    return [
        likelihood.log_likelihood(eta, batch, **deviations),
        likelihood.log_prob(eta, batch.dense, **deviations),
        likelihood.mean(eta, **deviations),
        likelihood.variance(eta, **deviations),
        likelihood.sample(eta, torch.Generator().manual_seed(0), **deviations),
    ]


@pytest.mark.parametrize("draws", [(), (3,), (2, 3)])
@pytest.mark.parametrize("shape", ["genes", "cells", "draws", "row"])
def test_a_deviation_shifts_the_parameter(likelihood, batch, draws, shape):
    eta, deviations = normal(*draws, N, P), by_name(likelihood, P)
    shapes = {"genes": (P,), "cells": (N, P), "draws": (*draws, N, P), "row": (*(1 for _ in draws), 1, P)}
    expanded = {name: value.expand(shapes[shape]) for name, value in deviations.items()}
    expected = results(shifted(likelihood, deviations), eta, batch)
    for ours, theirs in zip(results(likelihood, eta, batch, deviations=expanded), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_names_without_a_deviation_do_not_move(likelihood, batch):
    eta = normal(3, N, P)
    for name, value in by_name(likelihood, P).items():
        expected = results(shifted(likelihood, {name: value}), eta, batch)
        found = results(likelihood, eta, batch, deviations={name: value.expand(N, P)})
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    for nothing in (None, {}):
        torch.testing.assert_close(
            likelihood.log_likelihood(eta, batch, nothing), likelihood.log_likelihood(eta, batch)
        )


def test_deviations_of_batches_are_likelihoods_of_their_own(likelihood, batch):
    eta, group = normal(3, N, P), torch.tensor([0, 1, 1, 0, 2, 1, 0])
    table = by_name(likelihood, 3, P)
    found = likelihood.log_likelihood(eta, batch, {name: value[group] for name, value in table.items()})
    for k in range(3):
        of_group = shifted(likelihood, {name: value[k] for name, value in table.items()})
        part = CountBatch.from_counts(batch.dense[group == k].numpy(), torch.float64)
        torch.testing.assert_close(found[:, group == k], of_group.log_likelihood(eta[:, group == k], part))


@pytest.mark.parametrize("shape", [(P,), (N, P), (4, N, P)])
@pytest.mark.parametrize("pairs", [2 * P, 10**6])
def test_gradient_is_autograds(likelihood, batch, shape, pairs, monkeypatch):
    monkeypatch.setattr(_blocks, "BLOCK_PAIRS", pairs)
    deviations, weight = by_name(likelihood, *shape), normal(4, N, seed=9)
    eta = normal(4, N, P)
    eta[0, 0, :3] = torch.tensor([-40.0, 24.0, 30.0])
    inputs = [eta, *likelihood.parameters(), *deviations.values()]
    for each in inputs:
        each.requires_grad_()
    total = (likelihood.log_likelihood(eta, batch, deviations) * weight).sum()
    expected = (likelihood.log_prob(eta, batch.dense, deviations).sum(-1) * weight).sum()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(torch.autograd.grad(total, inputs), torch.autograd.grad(expected, inputs))


@pytest.mark.parametrize("shape", [(N, P), (2, N, P)])
def test_gradient_is_numerical(likelihood, batch, shape):
    deviations = by_name(likelihood, *shape)
    names, eta = list(deviations), normal(2, N, P).requires_grad_()

    def log_likelihood(eta, *values):
        return likelihood.log_likelihood(eta, batch, dict(zip(names, values, strict=True)))

    assert torch.autograd.gradcheck(log_likelihood, (eta, *(each.requires_grad_() for each in deviations.values())))


@pytest.mark.parametrize("size", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite(likelihood, size, dtype):
    likelihood = likelihood.to(dtype)
    y = np.array([[0, 0, 1, 1e6, 2]] * 4)
    eta = torch.tensor([-1e4, -100.0, 100.0, 1e4], dtype=dtype)[:, None].repeat(1, P).requires_grad_()
    deviations = {
        name: torch.full((4, P), size, dtype=dtype, requires_grad=True) for name in likelihood.parameter_names
    }
    result = likelihood.log_likelihood(eta, CountBatch.from_counts(y, dtype), deviations)
    gradients = torch.autograd.grad(result.sum(), [eta, *likelihood.parameters(), *deviations.values()])
    assert result.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_float32_is_near_float64(likelihood, batch):
    eta, deviations = normal(3, N, P), by_name(likelihood, 3, N, P)
    expected = likelihood.log_likelihood(eta, batch, deviations)
    single = {name: value.float() for name, value in deviations.items()}
    found = likelihood.float().log_likelihood(eta.float(), CountBatch.from_counts(batch.dense.numpy()), single)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, P), (1, P)])
def test_small_batches(likelihood, shape):
    eta, deviations = torch.zeros((2, *shape)), by_name(likelihood, *shape)
    eta.requires_grad_()
    result = likelihood.float().log_likelihood(eta, CountBatch.from_counts(np.zeros(shape)), deviations)
    result.sum().backward()
    assert result.shape == (2, shape[0])
    assert eta.grad.isfinite().all()


def test_names_are_in_the_order_of_use():
    names = {name: make_likelihood(name, 2).parameter_names for name in ("poisson", "nb", "zip", "zinb")}
    theta, gate = "log_inverse_dispersion", "gate_logits"
    assert names == {"poisson": (), "nb": (theta,), "zip": (gate,), "zinb": (theta, gate)}
    logits = "category_logit_0", "category_logit_1"
    piecewise = make_likelihood("zinb", 2, k_max=2)
    assert piecewise.parameter_names == (theta, gate, *logits)
    assert piecewise.cell_parameter_names == logits
    assert make_likelihood("nb", 2).cell_parameter_names == ()


def test_bad_deviations_are_named(likelihood, batch):
    eta, name = normal(N, P), likelihood.parameter_names[0]
    with pytest.raises(ValueError, match=rf"deviations of \['scale'\] are given, but \w+ has the parameters .*{name}"):
        likelihood.mean(eta, {"scale": eta})
    with pytest.raises(ValueError, match=rf"{name} has deviations of shape \(3, 5\), but eta has shape \(7, 5\)"):
        likelihood.log_likelihood(eta, batch, {name: normal(3, P)})
    with pytest.raises(ValueError, match=r"shape \(2, 7, 5\), but eta has shape \(7, 5\)"):
        likelihood.log_likelihood(eta, batch, {name: normal(2, N, P)})
