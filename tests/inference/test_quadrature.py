"""Expectations, bounds and posteriors under any likelihood, against independent computations."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from scipy.special import gammaln, logsumexp

from scpln.inference import CountData, elbo, elbo_likelihood, infer, infer_likelihood
from scpln.inference.expectations._quadrature import Quadrature, gauss_hermite
from scpln.inference.newton._families import FAMILIES
from scpln.inference.newton._genes import GeneParameters
from scpln.inference.newton._states import CellStates
from scpln.inference.newton.general._block import LikelihoodBlock, LogRateFeatures
from scpln.inference.newton.general._cells import step_cells
from scpln.inference.newton.general._genes import GeneGradient
from scpln.module import CountBatch, Likelihood, make_likelihood

from . import reference
from .conftest import draw

NAMES = ["poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli", "gaussian"]
LOG_CONCAVE = ["poisson", "nb", "poisson_lognormal", "bernoulli", "gaussian"]
POSTERIORS = ["fullrank", "meanfield"]


def varied(name: str, p: int, seed: int = 0) -> Likelihood:
    """Likelihood in double precision whose genes differ."""
    random = np.random.default_rng(seed)
    likelihood = make_likelihood(name, p).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.from_numpy(random.normal(-0.5, 0.7, p)))
    return likelihood


def random_posteriors(n: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    root = 0.2 * random.standard_normal((n, q, q)) + 0.4 * np.eye(q)
    full = np.einsum("nab,ncb->nac", root, root)
    rows, columns = np.tril_indices(q)
    return 0.7 * random.standard_normal((n, q)), full[:, rows, columns]


def log_pmf(name: str, y: np.ndarray, eta: np.ndarray, likelihood: Likelihood) -> np.ndarray:
    """Log-probability by scipy.stats, of (..., p) arrays."""
    rate = np.exp(eta)
    parameters = {key: value.numpy() for key, value in likelihood.gene_parameters().items()}
    if name == "gaussian":
        return stats.norm.logpdf(y, eta, parameters["sd"])
    if name == "bernoulli":
        return np.where(y > 0, np.log(-np.expm1(-rate)), -rate)
    if name == "poisson_lognormal":
        base = -np.inf
        for t, weight in zip(*gauss_hermite(200), strict=True):
            log_rates = eta + parameters["log_rate_sd"] * t
            given_t = y * log_rates - np.exp(log_rates) - gammaln(y + 1)
            base = np.logaddexp(base, np.log(weight) + given_t) if abs(t) < 16 else base
        return base
    if name in ("poisson", "zip"):
        base = stats.poisson.logpmf(y, rate)
    else:
        theta = parameters["inverse_dispersion"]
        base = stats.nbinom.logpmf(y, theta, theta / (theta + rate))
    if name in ("poisson", "nb"):
        return base
    pi = parameters["zero_inflation"]
    return np.where(y == 0, np.logaddexp(np.log(pi), np.log1p(-pi) + base), np.log1p(-pi) + base)


def numbers(name: str, data: CountData) -> CountData:
    """The data as the likelihood expects them: real numbers for a Gaussian one."""
    if name != "gaussian":
        return data
    counts = data.counts.toarray()
    return CountData(np.log1p(counts), np.zeros(data.n_cells), data.design)


@pytest.mark.parametrize("n_nodes", [1, 2, 5, 12])
def test_nodes_integrate_polynomials(n_nodes):
    nodes, weights = gauss_hermite(n_nodes)
    moments = [0 if k % 2 else np.prod(np.arange(1, k, 2)) for k in range(2 * n_nodes)]
    scales = [weights @ np.abs(nodes) ** k for k in range(2 * n_nodes)]
    for k, (moment, scale) in enumerate(zip(moments, scales, strict=True)):
        np.testing.assert_allclose(weights @ nodes**k, moment, atol=1e-9 * scale)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_nodes", [3, 12])
def test_derivatives_are_those_of_the_value(name, n_nodes):
    random = np.random.default_rng(1)
    n, p = 6, 9
    y = random.poisson(2.0, (n, p)) * (random.random((n, p)) < 0.6)
    mean, variance = random.normal(0, 1.5, (n, p)), random.gamma(2, 0.2, (n, p))
    quadrature = Quadrature(varied(name, p), n_nodes, np.float64, requires_grad=True)
    counts = CountBatch.from_counts(y, torch.float64)
    expectation = quadrature.expect(counts, mean, variance)
    np.testing.assert_allclose(expectation.value, quadrature.value(counts, mean, variance), rtol=1e-12)

    nodes, weights = gauss_hermite(n_nodes)
    mu, v = (torch.from_numpy(a).requires_grad_() for a in (mean, variance))
    eta = mu + v.sqrt() * torch.from_numpy(nodes)[:, None, None]
    parameters = list(quadrature.likelihood.parameters())
    value = (quadrature.likelihood.log_prob(eta, counts.dense) * torch.from_numpy(weights)[:, None, None]).sum()
    by_mean, by_variance, *by_parameter = torch.autograd.grad(value, [mu, v, *parameters])
    np.testing.assert_allclose(expectation.value.sum(), value.item(), rtol=1e-10)
    np.testing.assert_allclose(expectation.slope, by_mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(expectation.weight, -2 * by_variance, rtol=1e-7, atol=1e-9)
    assert expectation.parameters.shape == (p, len(parameters))
    for ours, theirs in zip(expectation.parameters.T, by_parameter, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_curvature_has_a_limit_at_variance_zero(name, dtype):
    likelihood = varied(name, 5)
    y = np.array([[0.0, 0.0, 1.0, 2.0, 40.0]])
    mean = np.array([[-3.0, 1.0, 0.5, -1.0, 3.0]], dtype)
    counts = CountBatch.from_counts(y, torch.float64 if dtype is np.float64 else torch.float32)
    weight = Quadrature(likelihood, 7, dtype).expect(counts, mean, np.zeros_like(mean)).weight
    eta = torch.from_numpy(mean.astype(float)).requires_grad_()
    (slope,) = torch.autograd.grad(likelihood.log_prob(eta, torch.from_numpy(y)).sum(), eta, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), eta) if slope.requires_grad else (torch.zeros_like(eta),)
    np.testing.assert_allclose(weight, -curvature, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_poisson_bound_is_the_closed_form(batch_size):
    data, truth = draw(50, 30, 3, 2)
    arguments = truth["coefficients"], truth["loadings"]
    posterior = random_posteriors(50, 3)
    ours = elbo_likelihood(
        data, *arguments, make_likelihood("poisson", 30), *posterior, n_nodes=48, batch_size=batch_size
    )
    np.testing.assert_allclose(ours, elbo(data, *arguments, *posterior), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_the_bound_is_autograds(name):
    data, truth = draw(30, 8, 2, 2)
    data, family = numbers(name, data), FAMILIES["fullrank"](2)
    mean, packed = random_posteriors(30, 2)
    quadrature = Quadrature(varied(name, 8), 9, np.float64, requires_grad=True)
    features = LogRateFeatures.of(
        data.membership, GeneParameters(truth["coefficients"], truth["loadings"]), family, np.float64
    )
    covariance = reference.unpack(packed, 2)
    states = CellStates(mean, packed, np.linalg.slogdet(covariance.numpy())[1], np.ones(30))
    block = LikelihoodBlock(data, quadrature)
    block.load(0, 30, data.rows(0, 30))
    block.update_expectations(states, features)
    sums = GeneGradient(data, family, quadrature.parameters.shape[1])
    sums.add(block, states)

    b, c, m = (torch.from_numpy(a).requires_grad_() for a in (truth["coefficients"], truth["loadings"], mean))
    covariance.requires_grad_()
    linear = torch.from_numpy(data.offsets)[:, None] + torch.from_numpy(data.design) @ b.T + m @ c.T
    spread = torch.einsum("pa,nab,pb->np", c, covariance, c).sqrt()
    nodes, weights = (torch.from_numpy(a) for a in gauss_hermite(9))
    eta = linear + spread * nodes[:, None, None]
    fit = torch.einsum("k,knp->", weights, quadrature.likelihood.log_prob(eta, block.counts.dense))
    divergence = 0.5 * (m.square().sum() + torch.einsum("naa->", covariance) - torch.logdet(covariance).sum() - 60)
    inputs = [b, c, *quadrature.likelihood.parameters(), m, covariance]
    by_b, by_c, *by_parameter, by_m, by_covariance = torch.autograd.grad(fit - divergence, inputs)
    np.testing.assert_allclose(sums.bound, (fit - divergence).item(), rtol=1e-10)
    expected = torch.cat([by_b, by_c, *(g[:, None] for g in by_parameter)], 1)
    np.testing.assert_allclose(sums.by(truth["loadings"]), expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(block.expectation.slope @ truth["loadings"] - mean, by_m, rtol=1e-7, atol=1e-8)
    h = np.eye(2) + np.einsum("np,pa,pb->nab", block.expectation.weight, truth["loadings"], truth["loadings"])
    inverse = torch.linalg.inv(covariance).detach().numpy()
    np.testing.assert_allclose(0.5 * (inverse - h), by_covariance, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_bound_is_that_of_brute_force_and_below_the_log_likelihood(name):
    """One latent dimension: all integrals over z, with probabilities by scipy.stats."""
    data, truth = draw(40, 12, 1, level=-0.3)
    data, likelihood = numbers(name, data), varied(name, 12)
    b, c = truth["coefficients"], truth["loadings"]
    mean, packed = infer_likelihood(data, b, c, likelihood)
    bound = elbo_likelihood(data, b, c, likelihood, mean, packed)
    z = np.linspace(-9, 9, 6001)
    eta = (data.offsets[:, None] + data.design @ b.T)[:, None] + z[:, None] * c[:, 0]
    y = data.rows(0, 40)
    y = (y.toarray() if sp.issparse(y) else y)[:, None]
    log_joint = log_pmf(name, y, eta, likelihood).sum(2) + stats.norm.logpdf(z)
    log_q = stats.norm.logpdf(z, mean, np.sqrt(packed))
    step = z[1] - z[0]
    brute_force = (np.exp(log_q) * (log_joint - log_q)).sum(1) * step
    np.testing.assert_allclose(bound, brute_force, rtol=1e-6, atol=1e-6)
    gap = logsumexp(log_joint, axis=1) + np.log(step) - bound
    assert (gap > -1e-6).all()
    assert gap.mean() < 0.02


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", NAMES)
def test_inferred_posteriors_are_optimal(name, posterior):
    data, truth = draw(25, 30, 3, 2)
    data, likelihood = numbers(name, data), varied(name, 30)
    b, c = truth["coefficients"], truth["loadings"]
    mean, packed = infer_likelihood(data, b, c, likelihood, posterior=posterior)
    best = elbo_likelihood(data, b, c, likelihood, mean, packed)
    random = np.random.default_rng(0)
    diagonal = np.flatnonzero(np.equal(*np.tril_indices(3)))
    for _ in range(20):
        shift, scale = 0.05 * random.standard_normal(mean.shape), packed.copy().astype(float)
        scale[:, diagonal] *= np.exp(0.1 * random.standard_normal((25, 3)))
        other = elbo_likelihood(data, b, c, likelihood, mean + shift, scale)
        assert (other <= best + 1e-5).all()
    if posterior == "meanfield":
        assert not packed[:, np.setdiff1d(np.arange(6), diagonal)].any()
        full = infer_likelihood(data, b, c, likelihood)
        assert (elbo_likelihood(data, b, c, likelihood, *full) >= best - 1e-5).all()


def test_poisson_posteriors_are_those_of_the_closed_form(small):
    _, truth = draw(200, 40, 3, 2)
    arguments = small, truth["coefficients"], truth["loadings"]
    for posterior in POSTERIORS:
        ours = infer_likelihood(*arguments, make_likelihood("poisson", 40), posterior=posterior)
        theirs = infer(*arguments, posterior=posterior)
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-3)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_cells_do_not_depend_on_each_other(name):
    data, truth = draw(30, 25, 2)
    data, likelihood = numbers(name, data), varied(name, 25)
    arguments = truth["coefficients"], truth["loadings"], likelihood
    expected = infer_likelihood(data, *arguments)
    for batch_size, n_threads in ((1, 1), (7, 2)):
        actual = infer_likelihood(data, *arguments, batch_size=batch_size, n_threads=n_threads)
        np.testing.assert_allclose(actual[0], expected[0], atol=1e-4)
        np.testing.assert_allclose(actual[1], expected[1], atol=1e-4)
    some = np.array([3, 17, 18, 24])
    alone = infer_likelihood(data.subset(some), *arguments)
    np.testing.assert_allclose(alone[0], expected[0][some], atol=1e-4)


@pytest.mark.parametrize("name", LOG_CONCAVE)
def test_the_start_of_inference_does_not_matter(name):
    data, truth = draw(40, 25, 2)
    data, likelihood = numbers(name, data), varied(name, 25)
    arguments = data, truth["coefficients"], truth["loadings"], likelihood
    expected = infer_likelihood(*arguments)
    actual = infer_likelihood(*arguments, start=random_posteriors(40, 2))
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-3)


@pytest.mark.parametrize("format_", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.asarray])
def test_sparse_equals_dense(format_):
    data, truth = draw(40, 25, 2)
    arguments = truth["coefficients"], truth["loadings"], varied("zinb", 25)
    other = CountData(format_(data.counts.toarray()), data.offsets, data.design)
    np.testing.assert_array_equal(infer_likelihood(other, *arguments)[0], infer_likelihood(data, *arguments)[0])


def test_mean_field_is_diagonal_in_the_axes_of_the_rotation():
    data, truth = draw(30, 20, 2)
    turn, likelihood = np.array([[0.6, -0.8], [0.8, 0.6]]), varied("nb", 20)
    turned = truth["loadings"] @ turn
    options = {"posterior": "meanfield"}
    plain = infer_likelihood(data, truth["coefficients"], truth["loadings"], likelihood, **options)
    there = infer_likelihood(data, truth["coefficients"], turned, likelihood, rotation=turn, **options)
    np.testing.assert_allclose(there[0], plain[0] @ turn, atol=1e-4)


def test_an_indefinite_curvature_does_not_stop_cells():
    """Zeros that are probably inflated have negative weights, which can outweigh the prior."""
    likelihood = make_likelihood("zip", 3).double()
    with torch.no_grad():
        likelihood.gate_logits.fill_(0.0)
    data = CountData(np.zeros((5, 3)), np.linspace(0, 3, 5), np.ones((5, 1)))
    b, c = np.full((3, 1), 0.5), np.full((3, 1), 2.5)
    family = FAMILIES["fullrank"](1)
    states = CellStates.at(np.zeros((5, 1)), family, 0.02, np.float64)
    features = LogRateFeatures.of(data.membership, GeneParameters(b, c), family, np.float64)
    block = LikelihoodBlock(data, Quadrature(likelihood, 12, np.float64))
    block.load(0, 5, data.counts)
    block.update_expectations(states, features)
    assert (1 + block.expectation.weight @ c**2 < 0).any()
    bounds = [elbo_likelihood(data, b, c, likelihood, states.mean, states.variance, n_nodes=12)]
    for _ in range(30):
        step_cells(block, states, features, family)
        bounds.append(elbo_likelihood(data, b, c, likelihood, states.mean, states.variance, n_nodes=12))
    assert (np.diff(bounds, axis=0) > -1e-12).all()
    h = 1 + block.expectation.weight @ c**2
    np.testing.assert_allclose(states.variance * h, 1, rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(bad):
    values = np.ones((4, 3))
    values[2, 1] = bad
    data = CountData(values, np.zeros(4), np.ones((4, 1)))
    arguments = np.zeros((3, 1)), np.ones((3, 1)), make_likelihood("gaussian", 3)
    with pytest.raises(FloatingPointError, match=r"cell 2 is not finite: its data .* genes \[1\]"):
        infer_likelihood(data, *arguments)
    with pytest.raises(FloatingPointError, match="cell 2 is not finite"):
        elbo_likelihood(data, *arguments, np.zeros((4, 1)), np.ones((4, 1)))
