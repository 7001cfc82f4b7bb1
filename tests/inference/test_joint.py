"""Properties of fits to several modalities at once, each with a likelihood of its own."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import logsumexp

from scpln.inference import (
    ABSENT,
    CountData,
    distill_gaussians,
    elbo_likelihood,
    fit,
    fit_likelihood,
    infer_likelihood,
    log_weights,
    refine,
    sample_exact,
    standardize_context,
    summarize_weights,
    train_approximation,
)
from scpln.inference.expectations._quadrature import Quadrature, read_parameters, write_parameters
from scpln.inference.expectations._rules import JointExpectations, expectations_of
from scpln.inference.newton.general._block import block_size
from scpln.inference.newton.general._start import expected_counts
from scpln.module import (
    Approximation,
    CountBatch,
    GaussianPosterior,
    Generative,
    JointLikelihood,
    LinearDecoder,
    make_likelihood,
)

from . import reference
from .conftest import draw, subspace_angle
from .modalities import LIKELIHOOD_NAMES, dense_elbo, draw_joint, joint, log_probability, take_genes

SIZES = {"poisson": 20, "nb": 15, "bernoulli": 18, "zinb": 10}
N_GENES = sum(SIZES.values())


@pytest.fixture(scope="module")
def data() -> CountData:
    return draw_joint(250, 2, SIZES, d=2, missing=0.4)[0]


@pytest.fixture(scope="module")
def fitted(data):
    likelihood = joint(SIZES)
    return fit_likelihood(data, fit(data, 2), likelihood, tol=1e-6), likelihood


def by_modality(likelihood: JointLikelihood) -> dict[str, dict]:
    return {name: part.gene_parameters() for name, part in likelihood.parts.items()}


def generative(result, likelihood) -> Generative:
    return Generative(LinearDecoder(result.coefficients, result.loadings), likelihood).double().requires_grad_(False)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_expectations_are_those_of_each_modality(requires_grad):
    """And Poisson ones, in closed form, are what many nodes approach."""
    random, n = np.random.default_rng(0), 7
    likelihood = joint(SIZES, seed=3)
    y = random.poisson(1.0, (n, N_GENES))
    mean, variance = random.normal(size=(n, N_GENES)), random.gamma(2, 0.1, (n, N_GENES))
    rule = expectations_of(likelihood, 40, np.float64, requires_grad=requires_grad)
    actual = rule.expect(CountBatch.from_counts(y, torch.float64), mean, variance)
    assert isinstance(rule, JointExpectations)
    assert actual.parameters.shape == (N_GENES, 2 if requires_grad else 0)
    first, value = 0, 0
    for name, part in likelihood.parts.items():
        genes = slice(first, first + part.n_genes)
        quadrature = Quadrature(part, 40, np.float64, requires_grad=requires_grad)
        counts = CountBatch.from_counts(y[:, genes], torch.float64)
        expected = quadrature.expect(counts, mean[:, genes], variance[:, genes])
        np.testing.assert_allclose(actual.slope[:, genes], expected.slope, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(actual.weight[:, genes], expected.weight, atol=1e-9)
        g = expected.parameters.shape[1]
        np.testing.assert_allclose(actual.parameters[genes, :g], expected.parameters, rtol=1e-12)
        assert (actual.parameters[genes, g:] == 0).all()
        value, first = value + expected.value, genes.stop
    np.testing.assert_allclose(actual.value, value, rtol=1e-10)
    np.testing.assert_allclose(rule.value(CountBatch.from_counts(y, torch.float64), mean, variance), value, rtol=1e-10)


def test_expected_poisson_rates_beyond_all_counts_go_on_along_their_tangent():
    rule = expectations_of(make_likelihood("poisson", 3), 7, np.float64)
    counts, step = CountBatch.from_counts(np.array([[1e6, 0, 3]]), torch.float64), 1e-3
    mean, variance = np.array([[28.0, 30.0, 1e5]]), np.full((1, 3), 2.0)
    expectation = rule.expect(counts, mean, variance)
    assert np.isfinite(expectation.slope).all()
    for gene in range(3):
        change = step * np.eye(3)[[gene]]
        difference = rule.value(counts, mean + change, variance) - rule.value(counts, mean - change, variance)
        np.testing.assert_allclose(expectation.slope[0, gene], difference / (2 * step), rtol=1e-4)


def test_parameters_of_genes_are_padded():
    likelihood = joint({"nb": 2, "poisson": 1, "zinb": 2}, seed=1)
    values = read_parameters(likelihood)
    padding = np.array([[0, 1], [0, 1], [1, 1], [0, 0], [0, 0]], bool)
    np.testing.assert_array_equal(values == 0, padding)
    gates = likelihood.parts["zinb"].gate_logits.detach().clone()
    change = np.arange(10.0).reshape(5, 2)
    write_parameters(likelihood, values + change)
    np.testing.assert_allclose(read_parameters(likelihood), np.where(padding, 0, values + change))
    np.testing.assert_allclose(likelihood.parts["zinb"].gate_logits.detach() - gates, [6, 8])


def test_bound_never_falls_and_is_that_of_the_genes_that_cells_have(data, fitted):
    """Against formulas written out gene by gene, with another rule of quadrature."""
    result, likelihood = fitted
    assert result.converged, result.reason
    bounds = np.array(result.history["elbo"])
    assert (np.diff(bounds) >= -1e-6 * np.abs(bounds[:-1])).all()
    np.testing.assert_allclose(bounds[-1], result.elbo.mean(), atol=2e-3)
    b, c = torch.from_numpy(result.coefficients), torch.from_numpy(result.loadings)
    at = torch.from_numpy(result.mean).double(), reference.unpack(result.covariance, 2)
    expected = dense_elbo(data, SIZES, b, c, by_modality(likelihood), *at)
    np.testing.assert_allclose(result.elbo, expected, rtol=1e-6)
    start = joint(SIZES)
    poisson = fit(data, 2)
    start.initialise(expected_counts(data, poisson))
    before = elbo_likelihood(data, poisson.coefficients, poisson.loadings, start, poisson.mean, poisson.covariance)
    assert result.elbo.mean() > before.mean() + 0.1


def test_gradient_vanishes_at_the_optimum(data, fitted):
    """The gradient of the bound written out in torch, by everything that was fitted."""
    result, likelihood = fitted
    natural = by_modality(likelihood)
    b, c = (torch.from_numpy(a).requires_grad_() for a in (result.coefficients, result.loadings))
    logs = {name: {key: v.double().log().requires_grad_() for key, v in part.items()} for name, part in natural.items()}
    mean = torch.from_numpy(result.mean).double().requires_grad_()
    covariance = reference.unpack(result.covariance, 2).requires_grad_()

    def bound(b, c, mean, covariance, n_nodes):
        parameters = {name: {key: v.exp() for key, v in part.items()} for name, part in logs.items()}
        return dense_elbo(data, SIZES, b, c, parameters, mean, covariance, n_nodes)

    learned = [b, c, *(v for part in logs.values() for v in part.values())]
    gradients = torch.autograd.grad(bound(b, c, mean, covariance, 7).mean(), learned)
    assert len(gradients) == 5
    for gradient in gradients:
        assert gradient.abs().max() < 2e-3
    by_mean, by_covariance = torch.autograd.grad(bound(b, c, mean, covariance, 12).sum(), [mean, covariance])
    variance = torch.einsum("naa->na", covariance)
    assert (by_mean * variance.sqrt()).abs().max() < 5e-3
    assert (by_covariance @ covariance).abs().max() < 5e-3


def test_padding_stays_zero(data, fitted):
    parameters = read_parameters(fitted[1])
    assert (parameters[:20] == 0).all()
    assert (parameters[20:35, 1] == 0).all()
    assert (parameters[35:53] == 0).all()
    assert (parameters[53:] != 0).all()


def test_one_likelihood_in_all_modalities_is_that_likelihood():
    data, truth = draw(200, 40, 3, 2, level=1.0)
    noise = np.random.default_rng(0).gamma(1.5, 1 / 1.5, (200, 40))
    rates = np.exp(
        data.offsets[:, None] + data.design @ truth["coefficients"].T + truth["latent"] @ truth["loadings"].T
    )
    counts = sp.csr_matrix(np.random.default_rng(1).poisson(rates * noise))
    data = CountData(counts, data.offsets, data.design)
    start, single, parts = (
        fit(data, 3),
        make_likelihood("nb", 40),
        JointLikelihood({"a": make_likelihood("nb", 13), "b": make_likelihood("nb", 27)}),
    )
    expected, actual = fit_likelihood(data, start, single), fit_likelihood(data, start, parts)
    np.testing.assert_allclose(actual.elbo.mean(), expected.elbo.mean(), atol=2e-3)
    np.testing.assert_allclose(actual.loadings, expected.loadings, atol=0.02)
    theta = (likelihood_module.gene_parameters()["inverse_dispersion"] for likelihood_module in (parts, single))
    np.testing.assert_allclose(*theta, rtol=0.05)


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_posteriors_are_those_of_the_genes_that_cells_have(posterior, data, fitted):
    result, likelihood = fitted
    options = {"posterior": posterior, "rotation": result.rotation}
    mean, covariance = infer_likelihood(data, result.coefficients, result.loadings, likelihood, **options)
    if posterior == "fullrank":
        np.testing.assert_allclose(mean, result.mean, atol=5e-3)
    lacking = (data.offsets <= ABSENT).any(1)
    for cell in (*np.flatnonzero(lacking)[:8], *np.flatnonzero(~lacking)[:2]):
        genes = np.flatnonzero(data.offsets[cell, data.groups] > ABSENT)
        alone = take_genes(data, genes, np.array([cell]))
        b, c, part = result.coefficients[genes], result.loadings[genes], likelihood.subset(torch.from_numpy(genes))
        expected = infer_likelihood(alone, b, c, part, **options)
        np.testing.assert_allclose(mean[cell], expected[0][0], atol=2e-3)
        np.testing.assert_allclose(covariance[cell], expected[1][0], atol=1e-3)
        bound = elbo_likelihood(alone, b, c, part, mean[[cell]], covariance[[cell]])
        whole = elbo_likelihood(
            data.subset(np.array([cell])),
            result.coefficients,
            result.loadings,
            likelihood,
            mean[[cell]],
            covariance[[cell]],
        )
        np.testing.assert_allclose(bound, whole, rtol=1e-9)


@pytest.mark.parametrize("name", LIKELIHOOD_NAMES)
def test_gene_parameters_are_learned_from_the_cells_that_have_the_gene(name):
    """Cells that lack a modality change nothing of a fit to it, but for the expansion's rescaling of latent states."""
    sizes = {name: 25}
    data, _, _ = draw_joint(150, 1, sizes, seed=4)
    more = CountData(
        sp.vstack([data.counts, sp.csr_matrix((100, 25))], format="csr"),
        np.vstack([data.offsets, np.full((100, 1), ABSENT)]),
        np.ones((250, 1)),
        groups=data.groups,
    )
    likelihood_modules, start = [joint(sizes), joint(sizes)], fit(data, 1)
    prior = np.zeros((100, 1), np.float32), np.ones((100, 1), np.float32)
    extended = replace(
        start, mean=np.vstack([start.mean, prior[0]]), covariance=np.vstack([start.covariance, prior[1]])
    )
    results = []
    for likelihood_module, part, begin in zip(likelihood_modules, (data, more), (start, extended), strict=True):
        likelihood_module.initialise(expected_counts(part, begin))
    for ours, theirs in zip(
        *(likelihood_module.gene_parameters().values() for likelihood_module in likelihood_modules), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    for likelihood_module, part, begin in zip(likelihood_modules, (data, more), (start, extended), strict=True):
        results.append(fit_likelihood(part, begin, likelihood_module, tol=1e-5))
    np.testing.assert_allclose(results[1].elbo[150:], 0, atol=1e-3)
    np.testing.assert_allclose(results[1].elbo.sum(), results[0].elbo.sum(), atol=0.5)


def test_order_of_modalities_does_not_matter(data, fitted):
    names = list(SIZES)
    order = [2, 0, 3, 1]
    genes = np.concatenate([np.flatnonzero(data.groups == m) for m in order])
    groups = np.repeat(np.arange(4), [SIZES[names[m]] for m in order])
    permuted = CountData(data.counts[:, genes], data.offsets[:, order], data.design, groups=groups)
    likelihood = joint({names[m]: SIZES[names[m]] for m in order})
    result = fit_likelihood(permuted, fit(permuted, 2), likelihood, tol=1e-6)
    np.testing.assert_allclose(result.elbo.mean(), fitted[0].elbo.mean(), atol=2e-3)
    np.testing.assert_allclose(result.loadings, fitted[0].loadings[genes], atol=0.03)
    np.testing.assert_allclose(result.mean, fitted[0].mean, atol=0.05)


def test_bounds_are_in_order():
    """ELBO ≤ importance-weighted bound ≤ log-likelihood, by quadrature over the one latent dimension."""
    sizes = {"poisson": 8, "nb": 6, "bernoulli": 8, "zip": 5}
    data, _, _ = draw_joint(60, 1, sizes, missing=0.3, seed=2)
    likelihood = joint(sizes)
    result = fit_likelihood(data, fit(data, 1), likelihood)
    posterior = GaussianPosterior(result.mean, result.covariance)
    weights = np.hstack([w for _, w in log_weights(data, generative(result, likelihood), posterior, n_samples=2000)])
    iw = summarize_weights(weights).iw_bound
    z, step = np.linspace(-8, 8, 4001, retstep=True)
    exact, first = np.tile(-0.5 * z**2 - 0.5 * np.log(2 * np.pi), (60, 1)), 0
    for m, (name, part) in enumerate(likelihood.parts.items()):
        genes = slice(first, first + part.n_genes)
        center = data.offsets[:, [m]] + data.design @ result.coefficients[genes].T
        eta = torch.from_numpy(center[:, None] + z[:, None] * result.loadings[genes, 0])
        y = torch.from_numpy(data.counts[:, genes].toarray())[:, None]
        entries = log_probability(name, y, eta, part.gene_parameters()).sum(2).numpy()
        exact += np.where(data.offsets[:, [m]] > ABSENT, entries, 0.0)
        first = genes.stop
    exact = logsumexp(exact, axis=1) + np.log(step)
    assert (result.elbo <= exact + 1e-6).all()
    assert result.elbo.mean() < iw.mean() < exact.mean() + 1e-3
    np.testing.assert_allclose(iw, exact, atol=0.02)
    np.testing.assert_allclose(weights.mean(0), result.elbo, atol=0.1)


@pytest.mark.parametrize("amortized", [False, True])
def test_flows_and_encoders_train_on_all_modalities(amortized, data, fitted):
    result, likelihood = fitted
    model = generative(result, likelihood).float()
    gaussian = GaussianPosterior(result.mean, result.covariance)
    torch.manual_seed(0)
    approximation = Approximation.build(
        N_GENES, 2, 2, amortized=amortized, diagonal=False, flow=None if amortized else "iaf", n_transforms=2,
        flow_hidden=(16,), encoder_hidden=(16,), n_groups=4,
    )  # fmt: skip
    options = {"learning_rate": 1e-2, "batch_size": 250, "seed": 0}
    if amortized:
        before = distill_gaussians(data, approximation, gaussian, n_steps=100, **options)
        assert before.bound[-1] > before.bound[0] + 1
        gaussian = None
    else:
        standardize_context(data, approximation, gaussian, 100)
    ascent = train_approximation(
        data, model, approximation, gaussian, n_steps=40, n_samples=4, n_importance=1, reestimate=False, **options
    )
    assert ascent.n_skipped == 0
    assert ascent.bound[-1] > result.elbo.mean() - (10 if amortized else 0.05)


def test_exact_draws_and_refinement_agree_with_the_optimum(data, fitted):
    result, likelihood = fitted
    cell = int(np.flatnonzero((data.offsets <= ABSENT).any(1))[0])
    part = data.subset(np.array([cell]))
    model, gaussian = generative(result, likelihood), GaussianPosterior(result.mean, result.covariance)[[cell]]
    (chain,) = sample_exact(part, model, gaussian, n_samples=60, n_warmup=30)
    sd = np.sqrt(gaussian.variance[0])
    assert (np.abs(chain.z.mean(0) - gaussian.mean[0]) < 0.7 * sd).all()
    refined = refine(part, model.float(), gaussian, n_steps=100)
    assert (np.abs(refined.mean - gaussian.mean)[0] < 0.2 * sd).all()


def test_two_modalities_say_more_than_one():
    """Loadings and cell states come closer to the truth with the second modality than without."""
    sizes = {"bernoulli": 25, "nb": 20}
    data, truth, _ = draw_joint(300, 2, sizes, seed=3)
    first, likelihood_module = take_genes(data, np.arange(25)), make_likelihood("bernoulli", 25)
    both, one = (
        fit_likelihood(data, fit(data, 2), joint(sizes)),
        fit_likelihood(first, fit(first, 2), likelihood_module),
    )

    def explained(states: np.ndarray) -> float:
        """Share of the variance of the true states that a linear map of the estimated ones gives."""
        residuals = np.linalg.lstsq(np.column_stack([states, np.ones(300)]), truth["latent"], rcond=None)[1]
        return 1 - residuals.sum() / ((truth["latent"] - truth["latent"].mean(0)) ** 2).sum()

    assert explained(both.mean) > explained(one.mean) + 0.05
    angles = [subspace_angle(result.loadings[:25], truth["loadings"][:25]) for result in (both, one)]
    assert angles[0] < angles[1] - 1
    assert subspace_angle(both.loadings, truth["loadings"]) < 15


def test_blocks_hold_more_cells_where_there_are_no_nodes_and_as_many_for_each_thread():
    n, sizes = 3000, {"poisson": 990, "nb": 10}
    data = CountData(sp.csr_matrix((n, 1000)), np.zeros(n), np.ones((n, 1)))
    mixed = expectations_of(joint(sizes), 7, np.float32)
    nb = expectations_of(make_likelihood("nb", 1000), 7, np.float32)
    assert block_size(data, mixed, 1, None) > 5 * block_size(data, nb, 1, None)
    for rule in (mixed, nb):
        for n_threads in (1, 2, 7, 16):
            blocks = -(-n // block_size(data, rule, n_threads, None))
            assert blocks % n_threads in (0, n_threads - 1)  # shares are whole blocks
        assert block_size(data, rule, 1, 10) == 10
        assert block_size(data, rule, 2 * n, None) == 1
