"""Likelihoods against SciPy, pyro and autograd, and what all of them obey."""

from itertools import pairwise

import numpy as np
import pyro.distributions
import pytest
import scipy.sparse as sp
import torch
from scipy import integrate, optimize, special, stats

from scpln.module import CountBatch
from scpln.module.likelihoods import LIKELIHOODS, _blocks, make_likelihood, soft_clamp

# Likelihoods by name, followed by k_max where small counts have probabilities of their own.
PIECEWISE = ["poisson/1", "nb/3", "zip/2", "zinb/3"]
NAMES = [*LIKELIHOODS, *PIECEWISE]
COUNTS = [name for name in NAMES if name != "gaussian"]
PARAMETRIC = [name for name in NAMES if name not in ("poisson", "bernoulli")]
INFLATED = ["zip", "zinb"]
Y = np.array([0, 1, 2, 3, 5, 10, 30, 100, 1e3, 1e4, 1e5, 1e6])
ETA = np.r_[np.linspace(-30, 15, 31), np.log(np.maximum(Y, 0.5)), np.log(np.maximum(Y, 0.5)) + 0.4]
THETA = [1e-3, 0.1, 1.0, 10.0, 1e3, 1e6]
GATES = [-100.0, -5.0, 0.0, 3.0, 100.0]
# Parameters of a likelihood with one gene, by name: each likelihood's grid.
SETTINGS = [
    ("poisson", {}),
    *(("nb", {"log_inverse_dispersion": np.log(theta)}) for theta in THETA),
    *(("zip", {"gate_logits": gate}) for gate in GATES),
    *(
        ("zinb", {"base.log_inverse_dispersion": np.log(theta), "gate_logits": gate})
        for theta in THETA[1::2]
        for gate in GATES
    ),
    *(("poisson_lognormal", {"sd_logits": logit}) for logit in (-40.0, -5.75, -2.25, -0.75, 0.75)),
    ("bernoulli", {}),
    *(("gaussian", {"log_sd": log_sd}) for log_sd in (-3.0, 0.0, 5.0)),
    *(("poisson/1", {"category_logit_0": logit}) for logit in GATES),
    *(
        (
            "nb/3",
            {
                "base.log_inverse_dispersion": np.log(theta),
                "category_logit_0": logit,
                "category_logit_1": 1.0,
                "category_logit_2": -0.5 * logit,
            },
        )
        for theta in THETA[1::2]
        for logit in GATES[::2]
    ),
    *(("zip/2", {"base.gate_logits": gate, "category_logit_0": 0.5, "category_logit_1": -2.0}) for gate in GATES[1:4]),
]


def make(name, p):
    base, _, k_max = name.partition("/")
    return make_likelihood(base, p, int(k_max) if k_max else None)


def set_parameters(likelihood, values):
    for name, parameter in likelihood.named_parameters():
        parameter.data.copy_(torch.as_tensor(values[name]))
    return likelihood


def random_likelihood(name, p, seed=0):
    """A likelihood whose genes differ, around where parameters are by default, in float64."""
    rng = np.random.default_rng(seed)
    likelihood = make(name, p).double()
    for parameter in likelihood.parameters():
        parameter.data.add_(torch.from_numpy(rng.normal(size=p)))
    return likelihood


def random_counts(n, p, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.5, 2.0, size=(n, p))) * (rng.random((n, p)) < 0.6)


def grid():
    """Counts, and log-rates that float32 represents exactly, flat."""
    y, eta = np.meshgrid(Y, ETA.astype(np.float32).astype(np.float64), indexing="ij")
    return y.ravel(), eta.ravel()


def log_negative_binomial(y, eta, theta):
    combinations = -special.betaln(theta, y + 1) - np.log(theta + y)
    return combinations - theta * np.log1p(np.exp(eta) / theta) - y * np.log1p(theta / np.exp(eta))


def sd_of(logits):
    return 1e-4 + (3 - 1e-4) * special.expit(logits)


def log_poisson_lognormal(y, eta, sd):
    """By the trapezoidal rule around the integrand's largest value, found by bisection."""
    low, high = np.minimum(eta, np.log(np.maximum(y, 1e-3))) - 20, np.maximum(eta, np.log(np.maximum(y, 1e-3))) + 20
    for _ in range(80):
        mode = (low + high) / 2
        rises = y - np.exp(mode) > (mode - eta) / sd**2
        low, high = np.where(rises, mode, low), np.where(rises, high, mode)
    width = 1 / np.sqrt(np.exp(mode) + sd**-2)
    nodes = np.linspace(-60, 12, 7201)
    shift = width[:, None] * nodes
    # relative to the largest value, so that nothing of its size is lost
    terms = -np.exp(mode)[:, None] * (np.expm1(shift) - shift) - np.square(shift) / (2 * sd**2)
    slope = y - np.exp(mode) - (mode - eta) / sd**2
    integral = np.exp(terms + slope[:, None] * shift).sum(1) * (nodes[1] - nodes[0])
    largest = stats.poisson.logpmf(y, np.exp(mode)) - np.square((mode - eta) / sd) / 2
    return largest + np.log(integral * width / sd) - np.log(2 * np.pi) / 2


def reference(name, y, eta, values):
    """Log-probabilities in float64, without torch."""
    if "/" in name:
        base, k_max = name.split("/")
        return piecewise_reference(base, int(k_max), y, eta, values)
    mu = np.exp(eta)
    if name == "gaussian":
        return stats.norm.logpdf(y, eta, np.exp(values["log_sd"]))
    if name == "bernoulli":
        # SciPy's log1p(-p) for the zeros would see a rounded p.
        with np.errstate(divide="ignore"):
            return np.where(y > 0, stats.bernoulli.logpmf(1, -np.expm1(-mu)), -mu)
    if name == "poisson_lognormal":
        return log_poisson_lognormal(y, eta, sd_of(values["sd_logits"]))
    if name not in ("poisson", "nb", "zip", "zinb"):
        raise KeyError(name)
    theta = np.exp([value for key, value in values.items() if key.endswith("log_inverse_dispersion")])
    base = log_negative_binomial(y, eta, theta) if theta.size else stats.poisson.logpmf(y, mu)
    if "gate_logits" not in values:
        return base
    gate = values["gate_logits"]
    log_inflated, log_kept = -np.logaddexp(0, -gate), -np.logaddexp(0, gate)
    return np.where(y == 0, np.logaddexp(log_inflated, log_kept + base), log_kept + base)


def piecewise_reference(base, k_max, y, eta, values):
    logits = [values[f"category_logit_{k}"] for k in range(k_max)]
    of_base = {key.removeprefix("base."): value for key, value in values.items() if key.startswith("base.")}
    log_pi = special.log_softmax([*logits, 0.0])
    excess = reference(base, np.maximum(y - k_max, 0), eta, of_base)
    return log_pi[np.minimum(y, k_max).astype(int)] + np.where(y >= k_max, excess, 0.0)


def test_the_reference_of_the_negative_binomial_is_scipys():
    y, eta = grid()
    for theta in THETA:
        p = theta / (theta + np.exp(eta))
        known = p < 1 - 1e-6  # closer to 1, SciPy's argument has no digits left
        expected = stats.nbinom.logpmf(y[known], theta, p[known])
        np.testing.assert_allclose(log_negative_binomial(y, eta, theta)[known], expected, rtol=1e-8, atol=1e-6)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("sd", [1e-4, 0.01, 0.3, 1.0, 2.0])
def test_the_reference_of_poisson_lognormal_counts_is_scipys_integral(sd):
    y, eta = (each.ravel() for each in np.meshgrid([0, 1, 2, 10, 100, 1e4, 1e5], np.linspace(-20, 20, 9)))
    found = log_poisson_lognormal(y, eta, sd)
    for count, log_rate, ours in zip(y, eta, found, strict=True):

        def terms(u, y=count, m=log_rate):
            return y * u - np.exp(u) - special.gammaln(y + 1) + stats.norm.logpdf(u, m, sd)

        low, high = sorted([log_rate, np.log(max(count, 1e-3))])
        mode = optimize.brentq(lambda u, y=count, m=log_rate: y - np.exp(u) - (u - m) / sd**2, low - 20, high + 20)
        points = mode + np.array([-60, -10, -3, 0, 3, 10]) / np.sqrt(np.exp(mode) + sd**-2)
        parts = [
            integrate.quad(lambda u, f=terms, c=ours: np.exp(f(u) - c), *ends, epsabs=1e-12, epsrel=1e-10)[0]
            for ends in pairwise(points)
        ]
        size = count * abs(mode) + np.exp(mode) + abs(ours)  # of the terms, whose rounding the integrand has
        assert sum(parts) == pytest.approx(1, abs=2e-8 + 1e-15 * size)


@pytest.mark.parametrize(("name", "values"), SETTINGS)
def test_float64_is_the_reference(name, values):
    y, eta = grid()
    likelihood = set_parameters(make(name, 1).double(), values)
    expected = reference(name, y, eta, values)
    log_prob = likelihood.log_prob(torch.from_numpy(eta)[:, None], torch.from_numpy(y)[:, None]).detach()[:, 0]
    fast = likelihood.log_likelihood(
        torch.from_numpy(eta)[:, None], CountBatch.from_counts(y[:, None], torch.float64)
    ).detach()
    # Sums of terms up to y log y = 10⁷; log(1 − e^−μ) of SciPy has lost digits where μ is small.
    tolerance = {"rtol": 1e-9, "atol": 3e-8} if name != "bernoulli" else {"rtol": 1e-6, "atol": 1e-12}
    np.testing.assert_allclose(log_prob, expected, **tolerance)
    np.testing.assert_allclose(fast, expected, **tolerance)


@pytest.mark.parametrize(("name", "values"), SETTINGS)
def test_float32_is_near_float64(name, values):
    y, eta = grid()
    single, double = (set_parameters(make(name, 1).to(dtype), values) for dtype in (torch.float32, torch.float64))
    for ours, theirs in zip(double.parameters(), single.parameters(), strict=True):
        ours.data.copy_(theirs)
    results = []
    for likelihood, dtype in ((single, torch.float32), (double, torch.float64)):
        log_rates = torch.from_numpy(eta).to(dtype)[:, None]
        fast = likelihood.log_likelihood(log_rates, CountBatch.from_counts(y[:, None], dtype))
        slow = likelihood.log_prob(log_rates, torch.from_numpy(y)[:, None])[:, 0]
        results.append((fast.detach().double().numpy(), slow.detach().double().numpy()))
    (fast32, slow32), (fast64, slow64) = results
    distance = np.abs(eta - np.log(np.maximum(y, 0.5)))
    zero = likelihood.log_prob(torch.from_numpy(eta)[:, None], torch.zeros(1)).detach().abs()[:, 0].numpy()
    logits = sum(abs(value) for key, value in values.items() if "logit" in key)
    # A few roundings of each term: of log p(0), of y relative to the best rate, and of logits.
    terms = 1 + logits + zero + np.abs(fast64) + y * (1 + distance)
    if name == "gaussian":
        terms = 1 + np.abs(fast64)
    assert (np.abs(fast32 - fast64) <= 1e-6 * terms).all()
    assert (np.abs(slow32 - slow64) <= 3e-7 * (1 + np.abs(slow64))).all()
    if name != "gaussian":
        usual = (y <= 1e4) & (distance < 0.5)
        assert np.abs(fast32 - fast64)[usual].max() < 0.005


@pytest.mark.parametrize("name", INFLATED)
@pytest.mark.parametrize("gate", [-30.0, -2.0, 0.5, 30.0])
def test_zero_inflation_is_pyros(name, gate):
    likelihood = make(name, 1).double()
    likelihood.gate_logits.data.fill_(gate)
    y, eta = torch.arange(6.0).double()[:, None], torch.linspace(-3, 3, 6).double()[:, None]
    logits = torch.tensor([gate], dtype=torch.float64)
    if name == "zip":
        distribution = pyro.distributions.ZeroInflatedPoisson(eta.exp(), gate_logits=logits)
    else:
        theta = likelihood.gene_parameters()["inverse_dispersion"]
        distribution = pyro.distributions.ZeroInflatedNegativeBinomial(
            theta, logits=eta - theta.log(), gate_logits=logits
        )
    torch.testing.assert_close(likelihood.log_prob(eta, y).detach(), distribution.log_prob(y))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_log_likelihood_is_the_sum_over_genes(name, leading, monkeypatch):
    n, p = 7, 5
    likelihood, y = random_likelihood(name, p), random_counts(n, p)
    eta = torch.randn((*leading, n, p), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = likelihood.log_prob(eta, torch.from_numpy(y)).sum(-1)
    batch = CountBatch.from_counts(y, torch.float64)
    assert expected.shape == (*leading, n)
    torch.testing.assert_close(likelihood.log_likelihood(eta, batch), expected)
    monkeypatch.setattr(_blocks, "BLOCK_PAIRS", 2 * p)
    torch.testing.assert_close(likelihood.log_likelihood(eta, batch), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_autograds(name, monkeypatch):
    n, p = 7, 5
    monkeypatch.setattr(_blocks, "BLOCK_PAIRS", 2 * p)
    likelihood, y = random_likelihood(name, p), random_counts(n, p)
    generator = torch.Generator().manual_seed(0)
    eta = torch.randn((4, n, p), generator=generator, dtype=torch.float64)
    eta[0, 0, :3] = torch.tensor([-40.0, 24.0, 30.0])
    eta.requires_grad_()
    weight = torch.randn((4, n), generator=generator, dtype=torch.float64)
    inputs = [eta, *likelihood.parameters()]
    total = (likelihood.log_likelihood(eta, CountBatch.from_counts(y, torch.float64)) * weight).sum()
    expected = torch.autograd.grad((likelihood.log_prob(eta, torch.from_numpy(y)).sum(-1) * weight).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(total, inputs, retain_graph=True), expected)
    torch.testing.assert_close(torch.autograd.grad(total, inputs), expected)  # a second time, through the same graph


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_numerical(name):
    likelihood, y = random_likelihood(name, 3), random_counts(4, 3)
    batch = CountBatch.from_counts(y, torch.float64)
    eta = torch.randn((2, 4, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in likelihood.named_parameters()]

    def log_likelihood(eta, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            Wrapper(likelihood), {f"likelihood.{k}": v for k, v in values.items()}, (eta, batch)
        )

    assert torch.autograd.gradcheck(log_likelihood, (eta, *likelihood.parameters()))


class Wrapper(torch.nn.Module):
    """Makes `log_likelihood` the call, as `functional_call` needs."""

    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def forward(self, eta, batch):
        return self.likelihood.log_likelihood(eta, batch)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parameter", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite(name, parameter, dtype):
    y = np.zeros((8, 2))
    y[4:] = [[1, 1e6], [1e6, 1], [1e6, 1e6], [1, 3]]
    likelihood = make(name, 2).to(dtype)
    for value in likelihood.parameters():
        value.data.fill_(parameter)
    eta = torch.tensor([-1e4, -100.0, 100.0, 1e4, -1e4, -100.0, 100.0, 1e4], dtype=dtype)[:, None].repeat(1, 2)
    eta.requires_grad_()
    for result in (
        likelihood.log_likelihood(eta, CountBatch.from_counts(y, dtype)),
        likelihood.log_prob(eta, torch.from_numpy(y)).sum(-1),
    ):
        gradients = torch.autograd.grad(result.sum(), [eta, *likelihood.parameters()])
        assert result.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients)
    assert likelihood.mean(eta).isfinite().all()
    assert likelihood.variance(eta).isfinite().all()
    assert likelihood.sample(eta.detach(), torch.Generator().manual_seed(0)).isfinite().all()


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("eta", [-3.0, 0.0, 2.0])
def test_probabilities_and_moments_add_up(name, eta):
    likelihood = random_likelihood(name, 4)
    support = torch.arange(2.0 if name == "bernoulli" else 2000.0, dtype=torch.float64)[:, None]
    eta = torch.full((1, 4), eta, dtype=torch.float64)
    probability = likelihood.log_prob(eta, support).exp().detach()
    mean = (probability * support).sum(0)
    torch.testing.assert_close(probability.sum(0), torch.ones(4).double())
    torch.testing.assert_close(likelihood.mean(eta)[0].detach(), mean)
    torch.testing.assert_close(
        likelihood.variance(eta)[0].detach(), (probability * support.square()).sum(0) - mean.square()
    )


@pytest.mark.parametrize("name", NAMES)
def test_draws_have_the_moments(name):
    n = 100_000
    likelihood = random_likelihood(name, 3)
    eta = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    y = likelihood.sample(eta.expand(n, 3), torch.Generator().manual_seed(0))
    mean, variance = likelihood.mean(eta).detach(), likelihood.variance(eta).detach()
    assert ((y.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    fourth = (y - y.mean(0)).pow(4).mean(0)
    assert ((y.var(0) - variance).abs() < 5 * ((fourth - variance.square()).clamp(min=1e-12) / n).sqrt()).all()
    if name in COUNTS:
        torch.testing.assert_close(y, y.round())


@pytest.mark.parametrize("name", NAMES)
def test_draws_repeat_with_their_seed_only(name):
    likelihood, eta = random_likelihood(name, 50).float(), torch.zeros(4, 50)
    first, second, other = (likelihood.sample(eta, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert first.dtype == torch.float32
    assert first.shape == eta.shape
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (first != other).any()


@pytest.mark.parametrize("name", ["poisson", "nb"])
def test_huge_rates_draw(name):
    y = make(name, 1).sample(torch.tensor([[80.0], [1e8]]), torch.Generator().manual_seed(0))
    assert y.isfinite().all()
    assert (y > 1e9).all()


def start(likelihood, y, expected, size=100):
    """Initialise from batches of counts and expected counts."""
    likelihood.initialise(
        (CountBatch.from_counts(y[i : i + size]), torch.from_numpy(expected[i : i + size]))
        for i in range(0, len(y), size)
    )
    return {name: value.numpy() for name, value in likelihood.gene_parameters().items()}


def test_inverse_dispersion_starts_near_the_truth():
    rng = np.random.default_rng(0)
    theta = np.exp(rng.uniform(np.log(0.3), np.log(10), size=100))
    mu = np.exp(rng.normal(size=(1500, 100)) * 0.5 + rng.uniform(-2, 3, size=100))
    found = start(make_likelihood("nb", 100), rng.poisson(rng.gamma(theta, mu / theta)), mu)["inverse_dispersion"]
    assert np.corrcoef(np.log(found), np.log(theta))[0, 1] > 0.8
    assert np.median(np.abs(np.log(found / theta))) < 0.3


def test_poisson_counts_start_with_large_inverse_dispersion():
    mu = np.random.default_rng(0).gamma(2, size=(500, 20))
    assert start(make_likelihood("nb", 20), np.random.default_rng(1).poisson(mu), mu)["inverse_dispersion"].min() > 5


@pytest.mark.parametrize("name", INFLATED)
def test_zero_inflation_starts_between_nothing_and_the_truth(name):
    rng = np.random.default_rng(0)
    inflation = np.repeat([0.0, 0.4], 25)
    mu = np.exp(rng.normal(size=(1000, 50)) * 0.3 + 1)
    y = rng.poisson(mu) * (rng.random((1000, 50)) >= inflation)
    found = start(make(name, 50), y, mu * (1 - inflation))["zero_inflation"]
    assert (found >= 0.0099).all()
    assert (found < inflation + 0.05).all()
    if name == "zip":
        assert (found[25:] > 0.2).all()


@pytest.mark.parametrize("name", NAMES)
def test_start_is_bounded_without_counts(name):
    likelihood = make(name, 3)
    found = start(likelihood, np.zeros((20, 3)), np.full((20, 3), 1e-12))
    assert all(np.isfinite(value).all() for value in found.values())
    assert found.get("zero_inflation", np.zeros(1)).max() < 0.1
    assert all(parameter.abs().max() < 6 for parameter in likelihood.parameters())


def test_standard_deviation_starts_at_that_of_the_residuals():
    rng = np.random.default_rng(0)
    y = rng.normal(2.0, [0.5, 1.0, 3.0], size=(2000, 3))
    np.testing.assert_allclose(
        start(make_likelihood("gaussian", 3), y, np.full_like(y, 2.0))["sd"], [0.5, 1, 3], rtol=0.1
    )


@pytest.mark.parametrize("name", NAMES)
def test_save_load_and_parameters(name):
    likelihood = random_likelihood(name, 4)
    loaded = make(name, 4).double()
    loaded.load_state_dict(likelihood.state_dict())
    eta, batch = torch.zeros((6, 4), dtype=torch.float64), CountBatch.from_counts(random_counts(6, 4), torch.float64)
    torch.testing.assert_close(loaded.log_likelihood(eta, batch), likelihood.log_likelihood(eta, batch))
    names = {"nb": ["inverse_dispersion"], "zip": ["zero_inflation"], "gaussian": ["sd"]}
    names |= {"poisson_lognormal": ["log_rate_sd"]}
    names |= {"zinb": names["nb"] + names["zip"]}
    names |= {"poisson/1": ["probability_0"], "zip/2": [*names["zip"], "probability_0", "probability_1"]}
    names |= {f"{name}/3": names[name] + [f"probability_{k}" for k in range(3)] for name in ("nb", "zinb")}
    assert list(likelihood.gene_parameters()) == names.get(name, [])
    assert all(value.shape == (4,) and not value.requires_grad for value in likelihood.gene_parameters().values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("genes", [[3, 1], slice(1, 3), np.array([False, True, True, False]), np.array([2])])
def test_subset_is_the_likelihood_of_these_genes(name, genes):
    likelihood, y = random_likelihood(name, 4), torch.from_numpy(random_counts(5, 4))
    eta = torch.randn((5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    part = likelihood.subset(genes)
    chosen = np.arange(4)[genes]
    torch.testing.assert_close(part.log_prob(eta[:, chosen], y[:, chosen]), likelihood.log_prob(eta, y)[:, chosen])
    batch = CountBatch.from_counts(y[:, chosen].numpy(), torch.float64)
    assert part.log_likelihood(eta[:, chosen], batch).shape == (5,)
    assert part.n_genes == len(chosen)
    assert likelihood.n_genes == 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (1, 3), (3, 1)])
def test_small_batches(name, shape):
    likelihood = make(name, shape[1])
    eta = torch.zeros((2, *shape), requires_grad=True)
    result = likelihood.log_likelihood(eta, CountBatch.from_counts(np.zeros(shape, dtype=np.int64)))
    result.sum().backward()
    assert result.shape == (2, shape[0])
    assert eta.grad.isfinite().all()


def test_bernoulli_counts_presence():
    likelihood, eta = make_likelihood("bernoulli", 3), torch.randn(4, 3)
    y = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
    torch.testing.assert_close(
        likelihood.log_likelihood(eta, CountBatch.from_counts(9 * y)),
        likelihood.log_likelihood(eta, CountBatch.from_counts(y)),
    )


def test_log_rates_are_bounded_softly():
    eta = torch.tensor([-1e4, -3.0, 24.9, 25.0, 26.0, 100.0, 1e4], dtype=torch.float64, requires_grad=True)
    bounded = soft_clamp(eta, upper=LIKELIHOODS["poisson"].largest_log_rate)
    torch.testing.assert_close(bounded[:4], eta[:4], rtol=0, atol=0)
    rate = bounded[3:].exp()  # the tangent of the exponential at 25
    torch.testing.assert_close(rate, np.exp(25) * (1 + eta[3:] - 25))
    (slope,) = torch.autograd.grad(bounded.sum(), eta)
    torch.testing.assert_close(slope, 1 / (1 + (eta.detach() - 25).clamp(min=0)))
    assert soft_clamp(torch.tensor(-1e4), -10.0, 15.0).exp() > 0


def count_formats(y):
    rows = sp.csr_matrix(y)
    stored_zeros = sp.csr_matrix(
        (np.r_[rows.data, 0], np.r_[rows.indices, 0], np.r_[rows.indptr[:-1], rows.nnz + 1]), y.shape
    )
    repeated = sp.csr_matrix(rows.shape, dtype=y.dtype)
    repeated.data = np.repeat(rows.data, 2) // 2 + np.tile([0, 1], rows.nnz) * (np.repeat(rows.data, 2) % 2)
    repeated.indices, repeated.indptr = np.repeat(rows.indices, 2), 2 * rows.indptr
    return {
        "dense": y,
        "float32": y.astype(np.float32),
        "fortran": np.asfortranarray(y),
        "csr_matrix": rows,
        "csr_array": sp.csr_array(y),
        "csc": sp.csc_matrix(y),
        "coo": sp.coo_matrix(y),
        "uint16": rows.astype(np.uint16),
        "stored zeros": stored_zeros,
        "repeated entries": repeated,
    }


@pytest.mark.parametrize("form", count_formats(np.eye(2, dtype=np.int64)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_of_all_formats_are_the_same(form, dtype):
    y = random_counts(6, 5).astype(np.int64)
    y[5] = 0
    counts = count_formats(y)[form]
    batch = CountBatch.from_counts(counts, dtype)
    assert batch.dense.dtype == batch.values.dtype == dtype
    np.testing.assert_array_equal(batch.dense, y)
    np.testing.assert_array_equal(torch.stack((batch.cells, batch.genes)), np.nonzero(y))
    np.testing.assert_array_equal(batch.values, y[y > 0])
    np.testing.assert_array_equal(batch.positions(slice(2, 5)), np.flatnonzero(y[2:5]))
    np.testing.assert_allclose(
        batch.saturated, stats.poisson.logpmf(y, np.maximum(y, 1e-9)).sum(1), rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(batch.log_dense, np.log(np.maximum(y, 1)), rtol=1e-6)
    assert len(batch) == batch.n_cells == 6
    assert batch.n_genes == 5
    assert y.sum() == counts.sum()  # untouched


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"likelihood='nbinom' is not one of 'poisson', 'nb', .*'gaussian'"):
        make_likelihood("nbinom", 3)
    with pytest.raises(ValueError, match="n_genes=0"):
        make_likelihood("nb", 0)
    with pytest.raises(ValueError, match=r"counts have shape \(3,\)"):
        CountBatch.from_counts(np.zeros(3))
    with pytest.raises(ValueError, match=r"dtype=torch.int64 .* torch.float32 or torch.float64"):
        CountBatch.from_counts(np.zeros((1, 3)), torch.int64)
    likelihood, batch = make_likelihood("poisson", 3), CountBatch.from_counts(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"eta has shape \(4, 3\) and the batch \(2, 3\); expected \(..., n, 3\)"):
        likelihood.log_likelihood(torch.zeros(4, 3), batch)
    with pytest.raises(ValueError, match=r"make the batch with dtype=torch.float64"):
        likelihood.log_likelihood(torch.zeros(2, 3).double(), batch)


def test_every_likelihood_has_a_reference():
    """A new one is compared with SciPy too: name it in `SETTINGS` and in `reference`."""
    assert set(LIKELIHOODS) <= {name for name, _ in SETTINGS}
    with pytest.raises(KeyError):
        reference("another", np.zeros(1), np.zeros(1), {})
