"""Quantizers, priors of codes and the module: against their equations, other implementations, enumeration and autograd."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from scpln.inference.codes import fit_code_prior
from scpln.module import Batch, MLPDecoder, make_likelihood
from scpln.module.codes import (
    AutoregressiveCodes,
    CodePrior,
    CodeVectors,
    EMAQuantizer,
    FiniteScalarQuantizer,
    VQVAEModule,
    levels_of,
)
from scpln.module.codes._quantizer import rotate
from scpln.module.encoders import CodeEncoder

QUANTIZERS = {
    "ema": lambda **more: EMAQuantizer(3, 5, 2, **more),
    "fsq": lambda: FiniteScalarQuantizer(3, 12),
}


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_codes_are_the_nearest(kind):
    quantizer = QUANTIZERS[kind]().eval()
    h = numbers(50, 6)
    found = quantizer(h)
    projected = quantizer.project(h.reshape(50, 3, 2))
    distances = (projected[:, :, None] - quantizer.vectors).square().sum(-1)
    assert torch.equal(found.codes, distances.argmin(-1))
    torch.testing.assert_close(found.states.reshape(50, 3, 2), quantizer.lookup(found.codes).reshape(50, 3, 2))
    torch.testing.assert_close(found.commitment, distances.min(-1).values.sum(1))
    assert torch.equal(quantizer.nearest(quantizer.lookup(found.codes).reshape(50, 3, 2)), found.codes)


@pytest.mark.parametrize("size", [2, 3, 4, 16, 30, 31, 64, 243])
def test_the_grid_is_rounding(size):
    """With the formulas of Mentzer et al. (2024), dimension by dimension."""
    quantizer = FiniteScalarQuantizer(1, size)
    levels = np.array(levels_of(size))
    assert levels.prod() == size
    h = 3 * numbers(200, len(levels)).numpy()
    span = (levels - 1) * (1 + 1e-3) / 2
    offset = np.where(levels % 2 == 0, 0.5, 0)
    rounded = np.round(np.tanh(h + np.arctanh(offset / span)) * span - offset)
    codes = ((rounded + levels // 2) * np.cumprod([1, *levels[:-1]])).sum(1)
    found = quantizer(torch.from_numpy(h).float())
    np.testing.assert_array_equal(found.codes[:, 0], codes)
    np.testing.assert_allclose(found.states, rounded / (levels // 2), atol=1e-6)


@pytest.mark.parametrize(("size", "levels"), [(16, [4, 4]), (32, [8, 4]), (60, [5, 4, 3])])
def test_codes_are_those_of_vector_quantize_pytorch_fsq(size, levels):
    reference = pytest.importorskip("vector_quantize_pytorch")
    assert levels_of(size) == levels
    h = 2 * numbers(500, len(levels))
    states, indices = reference.FSQ(levels)(h[None])
    found = FiniteScalarQuantizer(1, size)(h)
    assert torch.equal(found.codes[:, 0], indices[0].long())
    torch.testing.assert_close(found.states, states[0])


def test_codes_and_averages_are_those_of_vector_quantize_pytorch():
    reference = pytest.importorskip("vector_quantize_pytorch")
    theirs = reference.VectorQuantize(
        dim=3, codebook_size=7, decay=0.8, commitment_weight=0.0, threshold_ema_dead_code=0, rotation_trick=False
    )
    ours = EMAQuantizer(1, 7, 3, decay=0.8, restart=False)
    ours.place(theirs._codebook.embed.clone(), theirs._codebook.cluster_size.clone())
    theirs._codebook.embed_avg.data.copy_(ours.sums)
    for step in range(5):
        h = numbers(40, 3, seed=step)
        states, codes, _ = theirs(h)
        found = ours(h)
        assert torch.equal(found.codes[:, 0], codes)
        torch.testing.assert_close(found.states, states)
    torch.testing.assert_close(ours.codebook, theirs._codebook.embed, rtol=1e-4, atol=1e-4)


def test_averages_follow_their_recursion():
    quantizer = EMAQuantizer(2, 3, 2, decay=0.7, restart=False)
    counts, sums = quantizer.counts.clone(), quantizer.sums.clone()
    for step in range(4):
        h = numbers(20, 4, seed=step)
        codes = quantizer(h).codes
        for m, k in itertools.product(range(2), range(3)):
            own = h.reshape(20, 2, 2)[codes[:, m] == k, m]
            counts[m, k] = 0.7 * counts[m, k] + 0.3 * len(own)
            sums[m, k] = 0.7 * sums[m, k] + 0.3 * own.sum(0)
    torch.testing.assert_close(quantizer.counts, counts)
    torch.testing.assert_close(quantizer.codebook, sums / counts[..., None], rtol=1e-3, atol=1e-3)


def test_dead_codes_begin_anew_in_training_only():
    quantizer = EMAQuantizer(1, 4, 2, decay=0.5)
    quantizer.place(torch.tensor([[[0.0, 0.0], [1.0, 1.0], [50.0, 50.0], [0.0, 1.0]]]), torch.full((1, 4), 10.0))
    h = numbers(40, 2)
    before = quantizer.codebook.clone()
    quantizer.eval()(h)
    assert torch.equal(quantizer.codebook, before)
    quantizer.train()
    for _ in range(8):
        quantizer(h)
    assert quantizer.codebook.abs().max() < 5  # among the vectors, where it was at 50
    assert len(quantizer.eval()(h).codes.unique()) == 4


def test_gradients_pass_the_choice():
    h = numbers(10, 6).requires_grad_()
    weight = numbers(10, 6, seed=1)
    quantizer = QUANTIZERS["ema"]()
    (quantizer(h).states * weight).sum().backward()
    torch.testing.assert_close(h.grad, weight)
    assert not list(quantizer.parameters())

    h = numbers(10, 4).requires_grad_()
    found = FiniteScalarQuantizer(2, 12)
    (found(h).states * weight[:, :4]).sum().backward()
    h2 = h.detach().requires_grad_()
    (found.project(h2.reshape(10, 2, 2)).flatten(1) * weight[:, :4]).sum().backward()
    torch.testing.assert_close(h.grad, h2.grad)


def test_rotation_turns_gradients():
    h, found = numbers(20, 3).double().requires_grad_(), numbers(20, 3, seed=1).double()
    turned = rotate(h, found)
    torch.testing.assert_close(turned, found)
    jacobian = torch.autograd.functional.jacobian(lambda x: rotate(x, found[:1]), h[:1].detach())[0, :, 0]
    scale = found[0].norm() / h[0].norm()
    torch.testing.assert_close(jacobian @ jacobian.T, scale.detach() ** 2 * torch.eye(3, dtype=torch.float64))


def every_code(n_codes, size):
    return torch.tensor(list(itertools.product(range(size), repeat=n_codes)))


@pytest.mark.parametrize("kind", [CodePrior, AutoregressiveCodes])
@pytest.mark.parametrize("n_groups", [1, 3])
def test_priors_sum_to_one(kind, n_groups):
    torch.manual_seed(0)
    prior, random = kind(4, 5, n_groups).requires_grad_(False), np.random.default_rng(0)
    codes = torch.from_numpy(random.integers(0, 5, (200, 4)) ** 2 // 5)
    prior.learn(codes, torch.from_numpy(random.integers(0, n_groups, 200)))
    for parameter in prior.parameters():
        parameter.normal_()
    every = every_code(4, 5)
    for group in range(n_groups):
        total = prior.log_prob(every, torch.full((625,), group)).double().exp().sum()
        assert abs(total - 1) < 1e-4
    assert abs(prior.log_prob(every).double().exp().sum() - 1) < 1e-4
    by_group = torch.stack([prior.log_prob(every, torch.full((625,), g)) for g in range(n_groups)])
    expected = torch.logsumexp(by_group + prior.log_shares[:, None], 0)
    torch.testing.assert_close(prior.log_prob(every, torch.full((625,), -1)), expected)


@pytest.mark.parametrize("kind", [CodePrior, AutoregressiveCodes])
def test_draws_have_the_priors_frequencies(kind):
    torch.manual_seed(0)
    prior = kind(2, 3).requires_grad_(False)
    prior.learn(torch.tensor([[0, 0], [0, 1], [1, 2], [2, 2]] * 10))
    for parameter in prior.parameters():
        parameter.normal_(std=0.5)
    drawn = prior.sample(5000, torch.Generator().manual_seed(0))
    observed = np.bincount((drawn * torch.tensor([3, 1])).sum(1), minlength=9)
    expected = prior.log_prob(every_code(2, 3)).double().exp().numpy()
    assert chisquare(observed, 5000 * expected / expected.sum()).pvalue > 0.01
    np.testing.assert_allclose(prior.marginals()[0], expected.reshape(3, 3).sum(1), atol=0.02)


def test_masked_networks_see_only_what_was_before():
    torch.manual_seed(0)
    prior = AutoregressiveCodes(4, 3).requires_grad_(False)
    for parameter in prior.parameters():
        parameter.normal_()
    codes, groups = torch.randint(3, (1, 4)), torch.zeros(1, dtype=torch.long)
    before = prior.conditionals(codes, groups)
    for position in range(4):
        changed = codes.clone()
        changed[0, position] = (changed[0, position] + 1) % 3
        after = prior.conditionals(changed, groups)
        assert torch.equal(after[:, : position + 1], before[:, : position + 1])
        assert position == 3 or not torch.allclose(after[:, position + 1 :], before[:, position + 1 :])


def test_a_fitted_prior_knows_what_depends_and_is_no_worse_than_independent_codes():
    random = np.random.default_rng(0)
    first = random.integers(0, 4, 900)
    group = random.integers(0, 2, 900)
    second = np.where(random.random(900) < 0.9, (first + group) % 4, random.integers(0, 4, 900))
    codes = np.column_stack([first, second, random.integers(0, 4, 900)])
    held = np.arange(900) >= 600
    values = {}
    for kind in (CodePrior, AutoregressiveCodes):
        prior = kind(3, 4, 2)
        fit_code_prior(prior, codes, group, held_out=held, seed=1)
        values[kind] = float(prior.log_prob(torch.from_numpy(codes[held]), torch.from_numpy(group[held])).mean())
    truth = -np.log(4) * 2 + 0.925 * np.log(0.925) + 0.075 * np.log(0.025)
    assert values[CodePrior] < -3 * np.log(4) + 0.05
    assert truth - 0.15 < values[AutoregressiveCodes] < truth + 0.15

    noise = random.integers(0, 4, (60, 3))
    fitted = {kind: kind(3, 4) for kind in (CodePrior, AutoregressiveCodes)}
    for prior in fitted.values():
        fit_code_prior(prior, noise, held_out=np.arange(60) >= 40)
    value = {kind: prior.log_prob(torch.from_numpy(noise[40:])).mean() for kind, prior in fitted.items()}
    assert value[AutoregressiveCodes] >= value[CodePrior] - 1e-5


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_states_have_the_probabilities_of_their_codes(kind):
    torch.manual_seed(0)
    quantizer = QUANTIZERS[kind]().eval()
    prior = CodeVectors(quantizer, CodePrior(3, quantizer.codebook_size))
    prior.codes.learn(torch.randint(4, (30, 3)))
    z = prior.sample(40, torch.Generator().manual_seed(0))
    codes = prior.codes_of(z)
    torch.testing.assert_close(quantizer.lookup(codes), z)
    torch.testing.assert_close(prior.log_prob(z), prior.codes.log_prob(codes))
    marginals = prior.log_marginals(z)
    assert marginals.shape == z.shape
    if kind == "ema":  # no two codes have a value in common
        expected = prior.codes.table[0][torch.arange(3), codes].repeat_interleave(2, 1).double()
        torch.testing.assert_close(marginals, expected, rtol=1e-4, atol=1e-4)


def make_module(**more):
    torch.manual_seed(0)
    decoder, encoder = MLPDecoder(5, 1, 4, hidden=(8,)), CodeEncoder(5, 1, 4, hidden=(8,))
    return VQVAEModule(
        decoder, make_likelihood("nb", 5), encoder, EMAQuantizer(2, 3, 2), CodePrior(2, 3), n_cells=6, **more
    )


def make_batch():
    counts = np.random.default_rng(0).poisson(2.0, (6, 5))
    return Batch.from_arrays(counts, np.zeros(6), np.ones((6, 1)))


def test_the_loss_is_minus_the_bound_and_the_commitment():
    module, batch = make_module(commitment=0.5).eval(), make_batch()
    found = module.loss(batch)
    quantized = module.quantizer(module.encoder(batch))
    log_likelihood = module.generative.log_likelihood(quantized.states, batch)
    expected = 2 * np.log(3) - log_likelihood.mean() + 0.5 * quantized.commitment.mean() + module._penalty() / 6
    torch.testing.assert_close(found.value, expected)
    torch.testing.assert_close(found.of_cells, 2 * np.log(3) - log_likelihood)
    found.value.backward()
    assert all(each.grad is not None for each in module.encoder.parameters())


def test_cells_may_lose_their_last_codes_in_training():
    module = make_module(code_dropout=1.0)
    states = module._without_some(torch.ones(2000, 4))
    shares = states.mean(0)
    assert torch.equal(shares[0], shares[1])
    assert abs(shares[0] - 0.5) < 0.05  # as many as a number from 0 to M - 1
    assert not shares[2:].any()
    whole = make_module(code_dropout=0.0)._without_some(torch.ones(20, 4))
    assert whole.all()
