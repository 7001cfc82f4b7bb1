"""Bounds of autoencoders: below quadrature and close to it, the same where models coincide, with the right gradients."""

import copy
import math

import numpy as np
import pytest
import torch

from scpln.module import (
    Approximation,
    Batch,
    ComponentEncoder,
    Conditional,
    Encoder,
    GaussianMixture,
    Generative,
    MixtureVAEModule,
    MLPDecoder,
    StandardNormal,
    VAEModule,
    importance_bound,
    make_flow,
    make_likelihood,
)

N, P, K = 12, 6, 3
KINDS = ["shared", "by component"]


def make_batch(dtype=torch.float64, labels=None):
    counts = np.random.default_rng(0).poisson(2.0, (N, P))
    return Batch.from_arrays(counts, np.zeros(N), np.ones((N, 1)), labels=labels, dtype=dtype)


def make_module(kind, q=1, *, prior=None, likelihood="poisson", flow=None, seed=0):
    torch.manual_seed(seed)
    decoder = MLPDecoder(P, 1, q, hidden=(8,))
    with torch.no_grad():
        decoder.loadings.add_(torch.randn(P, q))
        decoder.coefficients.add_(0.5)
    prior = GaussianMixture(K, q, full=True) if prior is None else prior
    generative = Generative(decoder, make_likelihood(likelihood, P), prior)
    if kind == "shared":
        encoder = Encoder(P, 1, q, hidden=(16,))
        transform = None if flow is None else make_flow(flow, q, 16, n_transforms=2, hidden=(8,))
        return VAEModule(generative, Approximation(q, encoder, transform), N).double()
    encoder = ComponentEncoder(prior.n_components, P, 1, q, hidden=(16,))
    transform = None if flow is None else make_flow(flow, q, 16, n_transforms=2, hidden=(8,))
    return MixtureVAEModule(generative, encoder, transform, N).double()


@torch.no_grad()
def exact_log_likelihood(module, batch):
    """Log p(y) of each cell by quadrature over z, which has one dimension."""
    z = torch.linspace(-12, 12, 6001, dtype=torch.float64)
    log_joint = module.generative.log_joint(z[:, None, None].expand(-1, N, 1), batch)
    return torch.logsumexp(log_joint, 0) + math.log(float(z[1] - z[0]))


def reconstruction(output):
    return output.parts["reconstruction_loss"]


def divergence(output):
    return output.parts["kl_local"]


@torch.no_grad()
def elbo(module, batch, n_samples=500):
    module.n_samples = n_samples
    output = module.eval().loss(batch)
    return -(reconstruction(output) + divergence(output))


def fit_encoder(module, batch, n_steps):
    module.generative.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=0.02)
    module.train()
    module.n_samples = 4
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / n_steps)
        optimizer.zero_grad()
        module.loss(batch).value.backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_of_a_mixture_is_below_quadrature_and_close(kind):
    module, batch = make_module(kind), make_batch()
    exact = exact_log_likelihood(module, batch)
    before = elbo(module, batch)
    fit_encoder(module, batch, 500 if kind == "shared" else 2000)
    after = elbo(module, batch, 4000)
    assert before.mean() < after.mean()
    assert (after < exact + 0.02).all()
    assert after.mean() == pytest.approx(exact.mean().item(), abs=0.1 if kind == "shared" else 0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_importance_weighted_bound_rises_to_the_log_likelihood(kind):
    module, batch = make_module(kind), make_batch()
    posterior = module.posterior(batch)
    noise = torch.randn((60_000, N, posterior.n_noise), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, log_q = posterior.reparameterize(noise)
    with torch.no_grad():
        weights = module.generative.log_joint(z, batch) - log_q
    bounds = [importance_bound(weights.reshape(-1, k, N), dim=1).mean().item() for k in (1, 10, 100, 60_000)]
    assert bounds == sorted(bounds)
    torch.testing.assert_close(importance_bound(weights), exact_log_likelihood(module, batch), atol=0.05, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_component_is_the_standard_normal(kind):
    q, batch = 2, make_batch()
    prior = GaussianMixture(1, q, full=True)
    prior.place(np.zeros((1, q)), np.eye(q)[None], np.ones(1))
    module = make_module(kind, q, prior=prior)
    plain = copy.deepcopy(module)
    plain.generative.prior = StandardNormal(q) if kind == "shared" else plain.generative.prior
    torch.manual_seed(1)
    with_mixture = module.loss(batch)
    torch.manual_seed(1)
    if kind == "shared":
        without = plain.loss(batch)
        torch.testing.assert_close(with_mixture.value, without.value, atol=1e-6, rtol=0)
        torch.testing.assert_close(divergence(with_mixture), divergence(without), atol=1e-6, rtol=0)
        return
    logits, loc, scale, _ = module.encoder(batch)
    assert logits.shape == (N, 1)
    draws = Conditional(loc, scale).draw(1)
    log_p = plain.generative.log_likelihood(draws.z, batch) + StandardNormal(q).log_prob(draws.z)
    expected = -(log_p - draws.log_q).mean()
    torch.testing.assert_close(with_mixture.value, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("flow", [None, "sylvester"])
@pytest.mark.parametrize("labelled", [False, True], ids=["no labels", "labels"])
def test_gradients_of_component_posteriors_are_those_of_the_bound(flow, labelled):
    """Against autograd through the reparametrised draws, whose expectation is the same."""
    labels = np.where(np.arange(N) % 2, np.arange(N) % K, -1) if labelled else None
    batch, module = make_batch(labels=labels), make_module("by component", 2, flow=flow)
    module.n_samples = 3000
    module.train()

    def plain():
        logits, loc, scale, features = module.encoder(batch)
        context = None if flow is None else features
        draws = Conditional(loc, scale, module.flow, context).reparameterize(
            torch.randn(module.n_samples, K * N, 2).double()
        )
        z = draws.z.reshape(-1, K, N, 2)
        terms = module.generative.log_likelihood(z, batch) - draws.log_q.reshape(-1, K, N)
        terms = terms + torch.stack([module.prior.log_components(z[:, k])[..., k] for k in range(K)], 1)
        shares = torch.softmax(logits, -1)
        extra = 0.0
        if labelled:
            known = torch.from_numpy(labels)
            certain = torch.nn.functional.one_hot(known.clamp(min=0), K).double()
            extra = torch.where(
                known >= 0, torch.log_softmax(logits, -1).gather(1, known.clamp(min=0)[:, None])[:, 0], 0
            )
            shares = torch.where(known[:, None] >= 0, certain, shares)
        of_k = torch.where(shares > 0, shares * (shares.clamp_min(1e-30).log() - module.prior.log_weights), 0).sum(1)
        return -((shares * terms.mean(0).T).sum(1) - of_k + extra).mean() + module.prior.penalty() / N

    torch.manual_seed(0)
    module.loss(batch).value.backward()
    ours = {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}
    module.zero_grad()
    plain().backward()
    for name, value in module.named_parameters():
        if value.grad is None or value.grad.abs().max() < 1e-3:
            continue
        error = (ours[name] - value.grad).norm() / value.grad.norm()
        assert error < 0.15, name


@pytest.mark.parametrize("kind", KINDS)
def test_known_components_are_used_in_training_only(kind):
    module = make_module(kind)
    labelled, unlabelled = make_batch(labels=np.zeros(N)), make_batch()

    def value(batch):
        torch.manual_seed(0)
        return module.loss(batch).value.item()

    module.train()
    assert value(labelled) != pytest.approx(value(unlabelled))
    module.eval()
    assert value(labelled) == value(unlabelled)


@pytest.mark.parametrize("kind", KINDS)
def test_components_of_the_posterior_differ(kind):
    """Nothing may subtract the component again, as batch normalisation does."""
    if kind == "shared":
        return
    module = make_module(kind).train()
    _, loc, _, _ = module.encoder(make_batch())
    by_component = loc.reshape(K, N, -1)
    assert (by_component[0] - by_component[1]).abs().mean() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_the_divergence(kind):
    module, batch = make_module(kind), make_batch()

    def loss(**options):
        torch.manual_seed(0)
        return module.loss(batch, **options)

    full, none, half = loss(), loss(kl_weight=0.0), loss(kl_weight=0.5)
    penalty = module.generative.prior.penalty() / N
    torch.testing.assert_close(none.value - penalty, reconstruction(full).mean())
    torch.testing.assert_close(half.value, (full.value + none.value) / 2)
    torch.testing.assert_close(loss(free_bits=1e6).value, none.value)
    torch.testing.assert_close(loss(free_bits=1e-6).value, full.value)
    bound = reconstruction(full) + divergence(full)
    torch.testing.assert_close(full.value - penalty, bound.mean())
