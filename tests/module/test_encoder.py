"""The encoder, the features of Gaussians, and the approximation that is made of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scpln.module import FLOWS, Approximation, Batch, Encoder, GaussianFeatures

from .conftest import random_scale

N, P, D, Q = 5, 7, 3, 2


def make_batch(counts=None, *, dtype=torch.float32, n=N) -> Batch:
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (n, P)) if counts is None else counts
    design = np.column_stack([np.ones(n), rng.normal(size=(n, D - 1))])
    return Batch.from_arrays(counts, rng.normal(size=n), design, dtype=dtype)


def make_encoder(*, diagonal=False, q=Q, perturb=0.5) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(P, D, q, hidden=(16, 8), diagonal=diagonal)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += perturb * torch.randn_like(parameter)
    return encoder


@pytest.mark.parametrize("q", [1, 2, 4])
@pytest.mark.parametrize("diagonal", [False, True])
def test_scales_are_cholesky_factors(q, diagonal):
    loc, scale, features = make_encoder(diagonal=diagonal, q=q)(make_batch())
    assert (loc.shape, scale.shape, features.shape) == ((N, q), (N, q, q), (N, 8))
    assert (scale.diagonal(dim1=1, dim2=2) > 0).all()
    assert torch.equal(scale, torch.tril(scale))
    below = torch.tril(scale, -1).abs().sum()
    assert below == 0 if diagonal or q == 1 else below > 0


def test_scales_start_at_one():
    torch.manual_seed(0)
    _, scale, _ = Encoder(P, D, Q)(make_batch())
    torch.testing.assert_close(scale, torch.eye(Q).expand(N, Q, Q))


def test_a_cell_does_not_depend_on_the_others():
    encoder, batch = make_encoder(), make_batch()
    alone = Batch.from_arrays(batch.counts.dense[2:3].numpy(), batch.offsets[2:3], batch.design[2:3])
    for together, single in zip(encoder(batch), encoder(alone), strict=True):
        torch.testing.assert_close(together[2:3], single)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1e6, -3.5])
def test_extreme_cells_are_finite(value, dtype):
    """Cells without counts, with very many, and real values that are negative."""
    encoder = make_encoder().to(dtype)
    outputs = encoder(make_batch(np.full((N, P), value), dtype=dtype))
    sum(output.square().sum() for output in outputs).backward()
    assert all(output.isfinite().all() for output in outputs)
    assert all(output.dtype == dtype for output in outputs)
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_scales_stay_bounded():
    encoder = make_encoder()
    with torch.no_grad():
        encoder.gaussian.log_scale.bias += torch.tensor([1e4, -1e4])
    _, scale, _ = encoder(make_batch())
    torch.testing.assert_close(scale.diagonal(dim1=1, dim2=2).log(), torch.tensor([12.0, -12.0]).expand(N, 2))


def test_all_inputs_matter():
    encoder, batch = make_encoder(), make_batch()
    mean = encoder(batch)[0]
    moved = [
        Batch.from_arrays(batch.counts.dense.numpy() + np.eye(N, P), batch.offsets, batch.design),
        replace(batch, offsets=batch.offsets + 1),
        replace(batch, design=batch.design + torch.tensor([0.0, 0.0, 1.0])),
    ]
    for other in moved:
        assert ((encoder(other)[0] - mean).abs().amax(1) > 1e-4).all()
    intercept = replace(batch, design=batch.design + torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(encoder(intercept)[0], mean)


def test_features_are_standardised():
    features, batch = GaussianFeatures(Q, D), make_batch(n=200)
    loc, scale = 3 * torch.randn(200, Q) + 5, random_scale(200, Q).float()
    features.standardize([(loc, scale, batch)])
    context = features(loc, scale, batch)
    assert context.shape == (200, features.size)
    torch.testing.assert_close(context.mean(0), torch.zeros(features.size), atol=1e-5, rtol=0)
    torch.testing.assert_close(context.std(0, correction=0), torch.ones(features.size), atol=1e-4, rtol=0)


def test_a_feature_that_is_constant_stays_finite():
    features, batch = GaussianFeatures(Q, D), make_batch()
    gaussian = torch.zeros(N, Q), torch.eye(Q).expand(N, Q, Q)
    features.standardize([(*gaussian, batch)])
    assert torch.equal(features(*gaussian, batch)[:, : 2 * Q + 1], torch.zeros(N, 2 * Q + 1))


@pytest.mark.parametrize("flow", [None, "affine", *FLOWS])
@pytest.mark.parametrize("amortized", [False, True])
def test_posteriors_start_at_the_gaussians(amortized, flow):
    torch.manual_seed(0)
    approximation = Approximation.build(
        P,
        D,
        Q,
        amortized=amortized,
        diagonal=False,
        flow=flow,
        n_transforms=2,
        flow_hidden=(8,),
        encoder_hidden=(16, 8),
    )
    batch, scale = make_batch(), random_scale(N, Q).float()
    assert approximation.encodes == amortized
    given = torch.randn(N, Q), scale
    posterior = approximation(batch, given)
    assert posterior.loc is given[0], "a Gaussian that is given replaces the encoder's"
    noise = torch.randn(4, N, Q)
    draws = posterior.reparameterize(noise)
    exact = torch.distributions.MultivariateNormal(given[0], scale_tril=scale)
    torch.testing.assert_close(draws.log_q, exact.log_prob(draws.z), atol=1e-4, rtol=1e-4)
    if amortized:
        loc, scale, _ = approximation.source(batch)
        torch.testing.assert_close(
            approximation(batch).reparameterize(noise).z, loc + torch.einsum("nab,knb->kna", scale, noise)
        )
