"""Likelihoods of several modalities side by side, against those of each modality alone."""

import copy

import numpy as np
import pytest
import torch

from scpln.module import (
    Batch,
    CountBatch,
    Generative,
    JointLikelihood,
    LatentModule,
    LinearDecoder,
    PLNPCAModule,
    make_likelihood,
)

SIZES = {"poisson": 4, "nb": 3, "zip": 2, "zinb": 5, "poisson_lognormal": 3, "bernoulli": 3}
P = sum(SIZES.values())
N = 6


def joint(seed: int = 0) -> JointLikelihood:
    random = np.random.default_rng(seed)
    likelihood = JointLikelihood({name: make_likelihood(name, p) for name, p in SIZES.items()}).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.from_numpy(random.normal(0, 0.7, len(parameter))))
    return likelihood


@pytest.fixture
def likelihood() -> JointLikelihood:
    return joint()


@pytest.fixture(scope="module")
def eta() -> torch.Tensor:
    return torch.randn(3, N, P, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(1.0, (N, P))


def parts(likelihood, *arrays):
    """Each modality with its columns of the arrays."""
    for (name, part), genes in zip(likelihood.parts.items(), likelihood.slices, strict=True):
        yield name, part, *(array[..., genes] for array in arrays)


def test_entries_are_those_of_each_modality(likelihood, eta, counts):
    y = torch.from_numpy(counts)
    log_prob, mean, variance = likelihood.log_prob(eta, y), likelihood.mean(eta), likelihood.variance(eta)
    assert log_prob.shape == mean.shape == variance.shape == eta.shape
    for _, part, x, own, *results in parts(likelihood, eta, y, log_prob, mean, variance):
        for actual, expected in zip(results, (part.log_prob(x, own), part.mean(x), part.variance(x)), strict=True):
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fast_path_and_its_gradients_are_the_sum_over_entries(dtype, likelihood, eta, counts):
    x = eta.to(dtype).requires_grad_()
    batch = CountBatch.from_counts(counts, dtype)
    total = likelihood.log_likelihood(x, batch)
    expected = likelihood.log_prob(x, batch.dense).sum(-1)
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {}
    torch.testing.assert_close(total, expected, **tolerance)
    weights = torch.linspace(0.5, 2, total.numel(), dtype=dtype).reshape(total.shape)
    inputs = [x, *likelihood.parameters()]
    gradients = (torch.autograd.grad((value * weights).sum(), inputs) for value in (total, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


def test_parameters_go_by_modality(likelihood, eta, counts):
    assert likelihood.parameter_names == (
        "nb.log_inverse_dispersion",
        "zip.gate_logits",
        "zinb.log_inverse_dispersion",
        "zinb.gate_logits",
        "poisson_lognormal.sd_logits",
    )
    values = likelihood.gene_parameters()
    names = ("inverse_dispersion", "zero_inflation", "log_rate_sd")
    assert set(values) == set(names)
    for name, part, *found in parts(likelihood, *(values[key] for key in names)):
        expected = part.gene_parameters()
        for key, actual in zip(names, found, strict=True):
            if key in expected:
                torch.testing.assert_close(actual, expected[key])
            else:
                assert actual.isnan().all(), name
    deviations = {"nb.log_inverse_dispersion": torch.zeros(N, P)}
    batch = CountBatch.from_counts(counts, torch.float64)
    for call in (lambda: likelihood.mean(eta, deviations), lambda: likelihood.log_likelihood(eta, batch, deviations)):
        with pytest.raises(ValueError, match=r"deviations of \['nb.log_inverse_dispersion'\]"):
            call()


def test_state_is_saved_by_modality(likelihood, eta, counts):
    state = copy.deepcopy(likelihood.state_dict())
    assert all(any(name in key for key in state) for name in ("nb", "zip", "zinb"))
    other = joint(seed=1)
    y = torch.from_numpy(counts)
    assert not torch.equal(other.log_prob(eta, y), likelihood.log_prob(eta, y))
    other.load_state_dict(state)
    torch.testing.assert_close(other.log_prob(eta, y), likelihood.log_prob(eta, y))


@pytest.mark.parametrize("names", [["gex.v1", "gex.v2"], ["type", "values"], ["a.b", "a%2Eb"], ["100%", ""]])
def test_modalities_have_any_name(names):
    likelihood = JointLikelihood({name: make_likelihood("nb", 1 + i) for i, name in enumerate(names)})
    assert list(likelihood.parts) == names
    assert [part.n_genes for part in likelihood.parts.values()] == [1, 2]
    assert len(likelihood.state_dict()) == 2


@pytest.mark.parametrize(
    "genes", [slice(2, 9), [0, 5, 16], [16, 0, 5, 1, 6, 7], np.arange(P) % 3 == 0, torch.tensor([4])], ids=str
)
def test_some_genes_in_any_order(genes, likelihood, eta, counts):
    y = torch.from_numpy(counts)
    part = likelihood.subset(genes)
    assert part.n_genes == len(torch.arange(P)[genes])
    torch.testing.assert_close(part.log_prob(eta[..., genes], y[:, genes]), likelihood.log_prob(eta, y)[..., genes])
    for name, values in part.gene_parameters().items():
        torch.testing.assert_close(values, likelihood.gene_parameters()[name][genes], equal_nan=True)


def test_draws_have_the_moments_of_each_modality(likelihood, eta):
    rates = eta[0].expand(4000, N, P)
    draws = likelihood.sample(rates, torch.Generator().manual_seed(0))
    assert torch.equal(draws, likelihood.sample(rates, torch.Generator().manual_seed(0)))
    error = (likelihood.variance(eta[0]) / 4000).sqrt()
    assert ((draws.mean(0) - likelihood.mean(eta[0])).abs() < 6 * error).all()
    assert draws[..., -3:].max() == 1


def test_starts_at_the_moments_of_each_modality(counts):
    many = np.random.default_rng(1).poisson(1.0, (300, P)) * (np.random.default_rng(2).random((300, P)) < 0.8)
    expected = torch.full((300, P), 0.9)
    likelihood = joint()
    likelihood.initialise([(CountBatch.from_counts(many), expected)])
    for name, part, own, rates in parts(likelihood, many, expected):
        alone = make_likelihood(name, part.n_genes).double()
        alone.initialise([(CountBatch.from_counts(own), rates)])
        for ours, theirs in zip(part.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_what_is_not_a_likelihood_of_counts_is_refused():
    with pytest.raises(ValueError, match="The likelihood of 'protein' is Gaussian"):
        JointLikelihood({"rna": make_likelihood("nb", 2), "protein": make_likelihood("gaussian", 2)})
    with pytest.raises(ValueError, match="'rna' is PiecewiseCategorical"):
        JointLikelihood({"rna": make_likelihood("nb", 2, k_max=2)})
    with pytest.raises(ValueError, match="n_genes=0"):
        JointLikelihood({})


def test_modules_decode_and_draw_some_genes(likelihood):
    random = np.random.default_rng(0)
    decoder = LinearDecoder(random.normal(size=(P, 1)), random.normal(size=(P, 2)))
    module = LatentModule(Generative(decoder, likelihood).double())
    z, genes = random.normal(size=(N, 2)), np.array([P - 1, 1, 6])
    eta, _ = module.decode(z, np.ones((N, 1)))
    some, deviations = module.decode(z, np.ones((N, 1)), genes=genes)
    torch.testing.assert_close(some, eta[:, genes])
    draws = module.draw(some, seed=0, genes=genes, deviations=deviations)
    assert draws.shape == (N, 3)
    assert set(np.unique(draws[:, 0])) <= {0.0, 1.0}
    assert module.draw(eta, seed=0).shape == (N, P)


def test_untrained_models_take_a_likelihood():
    module = PLNPCAModule.empty(P, 1, 2, likelihood=joint())
    assert isinstance(module.generative.likelihood, JointLikelihood)
    batch = Batch.from_arrays(
        np.ones((2, P)), np.zeros((2, 2)), np.ones((2, 1)), groups=np.arange(P) % 2, dtype=torch.float64
    )
    assert module.generative.log_joint(torch.zeros(2, 2, dtype=torch.float64), batch).isfinite().all()
