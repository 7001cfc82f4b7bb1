"""Other likelihoods in gene space: against torch's log-probabilities on a fine grid, numerical slopes, and Poisson counts."""

import numpy as np
import pytest
import scipy.stats as st
import torch

from scpln.core import threads
from scpln.inference import CountData, Entries
from scpln.inference.genespace import fit_pln, infer_pln, inflation_of_cells, pln_elbo, posterior_covariance
from scpln.inference.genespace._fit import _start
from scpln.inference.genespace._infer import FAMILIES
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace._profile import Profile
from scpln.inference.genespace.terms import terms_of
from scpln.module import make_likelihood
from scpln.module.covariances import Diagonal, Fixed, Full
from scpln.module.likelihoods import InflatedByCell, NegativeBinomial, Poisson

POSTERIORS = ["fullrank", "meanfield"]
NAMES = ["nb", "zip", "zinb", "poisson_lognormal", "bernoulli"]
CORRELATED = np.array([[1.0, 0.5, 0.3], [0.5, 0.8, 0.4], [0.3, 0.4, 0.6]])


def draw(n=40, p=3, seed=0, level=1.0, inflation=(0.1, 0.3, 0.5)):
    random = np.random.default_rng(seed)
    log_rates = random.multivariate_normal(np.full(p, level), CORRELATED[:p, :p], size=n)
    counts = random.poisson(np.exp(log_rates)) * (random.random((n, p)) >= inflation[:p])
    return CountData(counts, 0.1 * random.standard_normal(n), np.ones((n, 1)))


def expected_on_grid(likelihood, counts, mean, variance):
    """Σ_j E[log p(y_ij | η_ij)] by the trapezoid rule, from the likelihood's plain log-probabilities."""
    nodes = np.linspace(-9, 9, 1801)
    eta = torch.from_numpy(mean + nodes[:, None, None] * np.sqrt(variance))
    values = likelihood.log_prob(eta, torch.from_numpy(np.asarray(counts, float))).numpy()
    return (st.norm.pdf(nodes)[:, None, None] * values).sum((0, 2)) * (nodes[1] - nodes[0])


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", NAMES)
def test_the_bound_is_that_of_a_fine_grid(name, posterior):
    data, likelihood = draw(), make_likelihood(name, 3).double().requires_grad_(False)
    coefficients, covariance = np.ones((3, 1)), Fixed(3, CORRELATED)
    cells = infer_pln(data, coefficients, covariance, likelihood=likelihood, posterior=posterior)
    at = data, coefficients, covariance, cells.mean, cells.variance
    v = posterior_covariance(*at, likelihood=likelihood, posterior=posterior)
    prior = torch.distributions.MultivariateNormal(torch.ones(3).double(), torch.from_numpy(CORRELATED))
    q = torch.distributions.MultivariateNormal(torch.from_numpy(cells.mean), torch.from_numpy(v))
    expected = expected_on_grid(likelihood, data.counts, data.offsets[:, None] + cells.mean, cells.variance)
    expected -= torch.distributions.kl_divergence(q, prior).numpy()
    np.testing.assert_allclose(cells.elbo, expected, atol=3e-4 if name.startswith("zi") else 2e-6)
    again = pln_elbo(*at, likelihood=likelihood, posterior=posterior)
    np.testing.assert_allclose(again, cells.elbo, atol=1e-4 if name.startswith("zi") else 1e-5)
    assert len(cells.stuck) == 0


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", ["poisson", *NAMES])
def test_slopes_of_the_profile_are_numerical_ones(name, posterior):
    """By B, Σ and the likelihood's parameters, with all posteriors at their optimum at each point.

    Where zeros may be inflated, some curvatures are negative and their weights 0, not the best: that leaves 1 % of a slope.
    """
    observations = Observations.of(draw(8))
    terms = terms_of(observations, make_likelihood(name, 3))
    coefficients, covariance = _start(observations, Full(3))
    covariance.update(CORRELATED)
    with threads(1) as pool:
        profile = Profile(coefficients, covariance, FAMILIES[posterior](observations, terms), 0.0, pool)

        def objective(point):
            profile.move(point)
            profile.settle(max_steps=100, tol=1e-13)
            return profile.objective

        point = profile.point
        objective(point)
        slope, steps = profile.slope, 1e-4 * np.eye(len(point))
        numerical = [(objective(point + step) - objective(point - step)) / 2e-4 for step in steps]
    short_of_best = name.startswith("zi") and posterior == "fullrank"
    np.testing.assert_allclose(slope, numerical, atol=0.02 if short_of_best else 1e-3)
    assert np.abs(slope).max() > 0.5


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_negative_binomial_counts_without_dispersion_are_poisson(posterior):
    data, likelihood = draw(), make_likelihood("nb", 3).double()
    likelihood.log_inverse_dispersion.data[:] = 15.0
    arguments = data, np.ones((3, 1)), Fixed(3, CORRELATED)
    expected = infer_pln(*arguments, posterior=posterior)
    actual = infer_pln(*arguments, likelihood=likelihood, posterior=posterior)
    for name in ("elbo", "mean", "variance", "weight"):
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), atol=1e-4)


def test_without_inflation_it_is_poisson():
    data, likelihood = draw(), make_likelihood("zip", 3).double()
    likelihood.gate_logits.data[:] = -40.0
    arguments = data, np.ones((3, 1)), Fixed(3, CORRELATED)
    np.testing.assert_allclose(infer_pln(*arguments, likelihood=likelihood).elbo, infer_pln(*arguments).elbo, atol=1e-7)


def test_inflation_is_recovered():
    data = draw(800, level=1.5)
    fit, plain = fit_pln(data, Full(3), likelihood=make_likelihood("zip", 3)), fit_pln(data, Full(3))
    assert fit.converged
    np.testing.assert_allclose(fit.likelihood.gene_parameters()["zero_inflation"], [0.1, 0.3, 0.5], atol=0.05)
    np.testing.assert_allclose(fit.covariance.dense, CORRELATED, atol=0.15)
    assert fit.elbo.sum() > plain.elbo.sum() + 100


def by_covariate(n=600, seed=0):
    """Zeros that are inflated where a covariate is large, and its coefficients (3, 2) of the logit."""
    random, effects = np.random.default_rng(seed), np.array([[-1.0, 1.5], [-0.5, 0.0], [-1.5, -1.0]])
    design = np.column_stack([np.ones(n), random.standard_normal(n)])
    log_rates = random.multivariate_normal(np.full(3, 1.5), CORRELATED, size=n)
    kept = random.random((n, 3)) > 1 / (1 + np.exp(-design @ effects.T))
    return CountData(random.poisson(np.exp(log_rates)) * kept, np.zeros(n), design), effects


def test_inflation_by_covariates_is_recovered():
    data, effects = by_covariate()
    zip_of = make_likelihood("zip", 3)
    fit = fit_pln(data, Full(3), likelihood=zip_of, zero_inflation="covariates")
    assert fit.converged
    np.testing.assert_allclose(fit.inflation, effects, atol=0.35)
    assert fit.elbo.sum() > fit_pln(data, Full(3), likelihood=zip_of).elbo.sum() + 20
    options = {"likelihood": fit.likelihood, "inflation": fit.inflation}
    again = infer_pln(data, fit.coefficients, fit.covariance, **options)
    np.testing.assert_allclose(again.elbo.sum(), fit.elbo.sum(), atol=0.05)


def test_units_of_covariates_do_not_matter_to_inflation():
    data, _ = by_covariate(80)
    other = CountData(data.counts, data.offsets, data.design * [1, 1000])
    options = {"likelihood": make_likelihood("zip", 3), "zero_inflation": "covariates", "prior_precision": 0}
    one, two = (fit_pln(each, Full(3), **options) for each in (data, other))
    np.testing.assert_allclose(two.inflation * [1, 1000], one.inflation, atol=1e-3)


def test_one_inflation_for_all_genes():
    data = draw(300, level=1.5, inflation=(0.3, 0.3, 0.3))
    fit = fit_pln(data, Full(3), likelihood=make_likelihood("zip", 3), zero_inflation="single")
    found = fit.likelihood.gene_parameters()["zero_inflation"].numpy()
    assert (found == found[0]).all()
    np.testing.assert_allclose(found[0], 0.3, atol=0.05)
    free = fit_pln(data, Full(3), likelihood=make_likelihood("zip", 3))
    assert fit.elbo.sum() < free.elbo.sum() + 0.05


@pytest.mark.parametrize("structure", ["single", "covariates"])
def test_slopes_of_inflation_are_numerical_ones(structure):
    observations = Observations.of(by_covariate(12)[0])
    terms = terms_of(observations, make_likelihood("zinb", 3), structure)
    random = np.random.default_rng(0)
    mean, variance = random.standard_normal((12, 3)), random.uniform(0.1, 1, (12, 3))
    point = terms.coordinates + 0.1 * random.standard_normal(len(terms.coordinates))
    terms.move(point)
    np.testing.assert_array_equal(terms.coordinates, point)

    def value(at):
        terms.move(at)
        return terms.expected(slice(None), mean, variance).value.sum()

    slope = terms.slope(slice(0, 12), mean, variance)
    numerical = [(value(point + step) - value(point - step)) / 2e-5 for step in 1e-5 * np.eye(len(point))]
    np.testing.assert_allclose(slope, numerical, atol=1e-6)


def by_cell(n=60, p=30, seed=0):
    """Counts with a probability of an excess zero of each cell, and those."""
    random = np.random.default_rng(seed)
    probabilities = random.choice([0.05, 0.3, 0.6], n)
    log_rates = np.linspace(0.5, 3, p) + 0.5 * random.standard_normal((n, p))
    kept = random.random((n, p)) >= probabilities[:, None]
    return CountData(
        random.poisson(np.exp(log_rates)) * kept, 0.1 * random.standard_normal(n), np.ones((n, 1))
    ), probabilities


@pytest.mark.parametrize("base", [Poisson, NegativeBinomial])
def test_inflation_by_cell_is_the_best_of_a_grid(base):
    """Σ_j E[log p(y_ij)] on a fine grid over log-rates, for 2,000 values of π, from scipy's probabilities of zeros and others."""
    data, _ = by_cell(12, 8)
    random = np.random.default_rng(1)
    mean, variance = np.log1p(data.counts) + 0.3 * random.standard_normal((12, 8)), random.uniform(0.05, 0.8, (12, 8))
    found = inflation_of_cells(data, InflatedByCell(base(8)), mean, variance)
    nodes = np.linspace(-9, 9, 1801)
    rates = np.exp(data.offsets[:, None] + mean + nodes[:, None, None] * np.sqrt(variance))
    theta = 1.0 if base is NegativeBinomial else None
    if theta is not None:
        theta = NegativeBinomial(8).gene_parameters()["inverse_dispersion"].numpy()
        of_zero = st.nbinom.pmf(0, theta, theta / (theta + rates))
    else:
        of_zero = st.poisson.pmf(0, rates)
    weights, zeros = st.norm.pdf(nodes)[:, None, None] * 0.01, data.counts == 0
    grid = np.concatenate([[1e-8], np.linspace(0, 1, 2001)[1:-1], [1 - 1e-8]])
    values = []
    for pi in grid:
        inside = (weights * np.log(pi + (1 - pi) * of_zero)).sum(0)
        values.append(np.where(zeros, inside, np.log1p(-pi)).sum(1))
    np.testing.assert_allclose(found, grid[np.argmax(values, axis=0)], atol=1.1e-3)
    assert 0.01 < found.mean() < 0.9


def test_the_bound_with_inflation_by_cell_is_that_of_a_fine_grid():
    data, _ = by_cell(12, 3)
    likelihood, coefficients, covariance = InflatedByCell(Poisson(3)), np.ones((3, 1)), Fixed(3, CORRELATED)
    cells = infer_pln(data, coefficients, covariance, likelihood=likelihood)
    at = data, coefficients, covariance, cells.mean, cells.variance
    v = posterior_covariance(*at, likelihood=likelihood)
    probabilities = inflation_of_cells(data, likelihood, cells.mean, cells.variance)
    prior = torch.distributions.MultivariateNormal(torch.ones(3).double(), torch.from_numpy(CORRELATED))
    q = torch.distributions.MultivariateNormal(torch.from_numpy(cells.mean), torch.from_numpy(v))
    kl = torch.distributions.kl_divergence(q, prior).numpy()
    for cell in range(12):
        other = make_likelihood("zip", 3).double().requires_grad_(False)
        other.gate_logits[:] = float(np.log(probabilities[cell] / (1 - probabilities[cell])))
        eta = (data.offsets[:, None] + cells.mean)[cell : cell + 1]
        expected = (
            expected_on_grid(other, data.counts[cell : cell + 1], eta, cells.variance[cell : cell + 1]) - kl[cell]
        )
        np.testing.assert_allclose(cells.elbo[cell], expected, atol=3e-4)
    np.testing.assert_allclose(pln_elbo(*at, likelihood=likelihood), cells.elbo, atol=1e-3)


def test_no_other_inflation_of_a_cell_raises_its_bound():
    """Each cell by itself as data whose genes share one probability, at all values of it."""
    data, _ = by_cell(6, 8)
    coefficients, covariance = np.linspace(0.5, 3, 8)[:, None], Fixed(8, 0.25 * np.eye(8))
    best = infer_pln(data, coefficients, covariance, likelihood=InflatedByCell(Poisson(8))).elbo
    bounds = []
    for pi in np.linspace(1e-6, 0.95, 100):
        shared = make_likelihood("zip", 8).double()
        shared.gate_logits.data[:] = float(np.log(pi / (1 - pi)))
        bounds.append(infer_pln(data, coefficients, covariance, likelihood=shared).elbo)
    assert (best >= np.max(bounds, axis=0) - 1e-6).all()
    np.testing.assert_allclose(best, np.max(bounds, axis=0), atol=0.02)


def test_inflation_by_cell_is_recovered():
    data, truth = by_cell(200, 60)
    fit = fit_pln(data, Diagonal(60), likelihood=make_likelihood("zip", 60), zero_inflation="cell")
    found = inflation_of_cells(data, fit.likelihood, fit.mean, fit.variance)
    assert fit.converged
    assert np.abs(found - truth).mean() < 0.06
    assert abs((found - truth).mean()) < 0.02
    np.testing.assert_allclose(fit.coefficients[:, 0], np.linspace(0.5, 3, 60), atol=0.3)
    np.testing.assert_allclose(np.diagonal(fit.covariance.dense).mean(), 0.25, atol=0.05)
    by_gene = fit_pln(data, Diagonal(60), likelihood=make_likelihood("zip", 60))
    assert fit.elbo.sum() > by_gene.elbo.sum() + 500


@pytest.mark.parametrize("name", ["zip", "zinb"])
def test_slopes_with_inflation_by_cell_are_numerical_ones(name):
    """By means, variances and parameters, with π at its best everywhere: at the best, π's own change does not count."""
    observations = Observations.of(by_cell(10, 5)[0])
    terms = terms_of(observations, make_likelihood(name, 5), "cell")
    random = np.random.default_rng(0)
    mean, variance = 1 + random.standard_normal((10, 5)), random.uniform(0.1, 0.8, (10, 5))
    found = terms.expected(slice(None), mean, variance)
    for by, expected in ((mean, found.slope), (variance, -0.5 * found.curvature)):
        for entry in ((0, 0), (3, 2), (7, 4)):
            values = []
            for sign in (1, -1):
                by[entry] += sign * 1e-5
                values.append(terms.expected(slice(None), mean, variance).value.sum())
                by[entry] -= sign * 1e-5
            np.testing.assert_allclose((values[0] - values[1]) / 2e-5, expected[entry], atol=1e-5)
    point = terms.coordinates + 0.1 * random.standard_normal(len(terms.coordinates))

    def value(at):
        terms.move(at)
        return terms.expected(slice(None), mean, variance).value.sum()

    numerical = [(value(point + step) - value(point - step)) / 2e-5 for step in 1e-5 * np.eye(len(point))]
    terms.move(point)
    np.testing.assert_allclose(terms.slope(slice(0, 10), mean, variance), numerical, atol=1e-5)
    assert len(point) == (5 if name == "zinb" else 0)


def test_cells_without_zeros_and_without_counts_have_probabilities_of_0_and_1():
    counts = np.array([[3, 5, 1], [0, 0, 0], [4, 0, 2], [9, 2, 2]])
    data = CountData(counts, np.zeros(4), np.ones((4, 1)))
    fit = fit_pln(data, Diagonal(3), likelihood=make_likelihood("zip", 3), zero_inflation="cell")
    found = inflation_of_cells(data, fit.likelihood, fit.mean, fit.variance)
    assert np.isfinite(fit.elbo).all()
    np.testing.assert_allclose(found[[0, 3]], 0, atol=1e-7)
    np.testing.assert_allclose(found[1], 1, atol=1e-7)
    np.testing.assert_allclose(fit.elbo[1], 0, atol=1e-5)
    observed = np.array([[True, False, True]] * 4)
    hidden = CountData(np.where(observed, counts, 77), np.zeros(4), np.ones((4, 1)), entries=Entries(observed=observed))
    alone = CountData(counts[:, [0, 2]], np.zeros(4), np.ones((4, 1)))
    one = inflation_of_cells(hidden, fit.likelihood, fit.mean, fit.variance)
    two = inflation_of_cells(alone, InflatedByCell(Poisson(2)), fit.mean[:, [0, 2]], fit.variance[:, [0, 2]])
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_the_bound_over_the_indicator_is_above_that_of_a_factorised_one():
    """With q(z) q(indicator) of each entry, as other packages have, at the best indicators for the same q(z)."""
    data = draw(200, level=1.5)
    fit = fit_pln(data, Full(3), likelihood=make_likelihood("zip", 3))
    pi = fit.likelihood.gene_parameters()["zero_inflation"].numpy()
    rates = np.exp(data.offsets[:, None] + fit.mean + fit.variance / 2)
    factorised = np.where(data.counts == 0, np.log(pi + (1 - pi) * np.exp(-rates)), 0).sum(1)
    eta = data.offsets[:, None] + fit.mean
    zeros = np.where(data.counts == 0, 1, 0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    exact = sum(
        w * (zeros * np.log(pi + (1 - pi) * np.exp(-np.exp(eta + x * np.sqrt(fit.variance))))).sum(1)
        for x, w in zip(nodes, weights / weights.sum(), strict=True)
    )
    assert (exact > factorised - 1e-9).all()
    assert exact.mean() > factorised.mean() + 0.01


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_entries_that_were_not_observed_have_no_part(name):
    data, random = draw(), np.random.default_rng(0)
    observed = random.random((40, 3)) > 0.3
    arguments = np.ones((3, 1)), Fixed(3, CORRELATED)
    fits = []
    for junk in (0, 50):
        counts = np.where(observed, data.counts, junk)
        given = CountData(counts, data.offsets, data.design, entries=Entries(observed=observed))
        fits.append(infer_pln(given, *arguments, likelihood=make_likelihood(name, 3).double()))
    np.testing.assert_array_equal(fits[0].elbo, fits[1].elbo)
    alone = CountData(data.counts[:, :1], data.offsets, data.design)
    only = np.zeros((40, 3), bool)
    only[:, 0] = True
    given = CountData(data.counts, data.offsets, data.design, entries=Entries(observed=only))
    one = infer_pln(alone, np.ones((1, 1)), Fixed(1, CORRELATED[:1, :1]), likelihood=make_likelihood(name, 1).double())
    all_three = infer_pln(given, *arguments, likelihood=make_likelihood(name, 3).double())
    np.testing.assert_allclose(all_three.elbo, one.elbo, atol=1e-6)


def test_order_of_genes_and_cells_does_not_matter():
    data, random = draw(), np.random.default_rng(0)
    cells, genes = random.permutation(40), random.permutation(3)
    moved = CountData(data.counts[cells][:, genes], data.offsets[cells], data.design)
    expected, actual = (fit_pln(each, Full(3), likelihood=make_likelihood("nb", 3), tol=1e-8) for each in (data, moved))
    np.testing.assert_allclose(actual.elbo, expected.elbo[cells], atol=2e-3)
    np.testing.assert_allclose(actual.covariance.dense, expected.covariance.dense[np.ix_(genes, genes)], atol=1e-2)


def test_a_likelihood_of_other_genes_is_refused():
    with pytest.raises(ValueError, match="likelihood has 4 genes, but the data 3"):
        fit_pln(draw(), Full(3), likelihood=make_likelihood("nb", 4))
