"""Coefficients of new columns: the truth, the optimum, and what must not matter."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

from scpln.inference import (
    ABSENT,
    CoefficientPrior,
    CountData,
    StateDensity,
    elbo,
    elbo_likelihood,
    fit,
    fit_columns,
    infer,
    infer_likelihood,
)
from scpln.inference.query._anchors import REFERENCE_CELLS, Anchors
from scpln.module import make_likelihood

NEW = np.array([False, False, True])


def simulate(n: int = 300, p: int = 25, *, likelihood: str = "poisson", seed: int = 0):
    """Cells of three batches, the last of which is new: data, B, C, the new batch's true coefficients, its cells."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, 3, n)
    design = np.column_stack([np.ones(n), batch == 1, batch == 2]).astype(float)
    coefficients = np.column_stack([rng.normal(1, 0.7, p), rng.normal(0, 0.5, p), rng.normal(0.3, 0.5, p)])
    loadings = rng.normal(0, 0.5, (p, 2))
    rates = np.exp(design @ coefficients.T + rng.normal(size=(n, 2)) @ loadings.T)
    likelihood_module = make_likelihood(likelihood, p).double()
    if likelihood == "nb":
        likelihood_module.log_inverse_dispersion.data.fill_(1.0)
        rates = rates * rng.gamma(np.e, 1 / np.e, size=rates.shape)
    data = CountData(sp.csr_matrix(rng.poisson(rates).astype(float)), np.zeros(n), design)
    truth, start = coefficients[:, 2], coefficients.copy()
    start[:, 2] = 0
    return data, start, loadings, likelihood_module, truth, batch == 2


@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_a_new_batch_gets_its_true_coefficients(likelihood, posterior):
    data, start, loadings, likelihood_module, truth, _ = simulate(1500, likelihood=likelihood)
    result = fit_columns(data, start, loadings, likelihood_module, NEW, posterior=posterior)
    assert result.converged
    # what cells' mean states say of it, as their prior N(0, I) allows, is part of the truth's error
    assert np.abs(result.coefficients[:, 2] - truth).max() < 0.25
    assert np.corrcoef(result.coefficients[:, 2], truth)[0, 1] > 0.97
    assert (result.coefficients[:, :2] == start[:, :2]).all()


@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_coefficients_are_the_optimum(likelihood):
    data, start, loadings, likelihood_module, _, new_cells = simulate(120, 8, likelihood=likelihood)
    data = data.subset(np.flatnonzero(new_cells))
    result = fit_columns(data, start, loadings, likelihood_module, NEW, tol=1e-7)

    def objective(values):
        b = result.coefficients.copy()
        b[:, 2] = values
        if likelihood == "poisson":
            bound = elbo(data, b, loadings, *infer(data, b, loadings))
        else:
            bound = elbo_likelihood(
                data,
                b,
                loadings,
                likelihood_module,
                *infer_likelihood(data, b, loadings, likelihood_module),
                n_nodes=12,
            )
        return bound.sum() + result.prior.log_density(values[:, None])

    best, rng = result.coefficients[:, 2], np.random.default_rng(0)
    at_best = objective(best)
    directions = [
        *loadings.T,
        np.ones(8),
        *rng.normal(size=(4, 8)),
    ]  # the first are those that latent states can replace
    for direction in directions:
        for size in (0.1, -0.1):
            assert objective(best + size * direction) < at_best + 1e-3


def test_bound_rises_once_the_prior_is_known():
    data, start, loadings, likelihood_module, *_ = simulate()
    result = fit_columns(data, start, loadings, likelihood_module, NEW, tol=1e-6)
    bound = np.array(result.history["elbo"])
    assert bound[-1] > bound[0] + 1
    objective_gain = np.diff(bound[10:])  # the log-prior may be traded for at most this much
    assert (objective_gain > -1e-3).all()


def test_the_same_as_a_joint_fit_of_many_cells():
    data, _, _, likelihood_module, _, new_cells = simulate(3000, 12)
    known = data.subset(np.flatnonzero(~new_cells))
    known = CountData(known.counts, known.offsets, known.design[:, :2])
    reference, joint = fit(known, 2, tol=1e-5), fit(data, 2, tol=1e-5)
    start = np.column_stack([reference.coefficients, np.zeros(12)])
    result = fit_columns(data, start, reference.loadings, likelihood_module, NEW)
    np.testing.assert_allclose(result.coefficients[:, 2], joint.coefficients[:, 2], atol=0.06)


def test_prior_is_learned_from_all_genes():
    rng = np.random.default_rng(0)
    precision = rng.gamma(2, 10, size=(4000, 1))
    values = rng.normal(0.7, 0.4, size=(4000, 1))
    estimates = values + rng.normal(size=values.shape) / np.sqrt(precision)
    prior = CoefficientPrior.with_unit_spread(np.zeros_like(values)).empirical_bayes(estimates, precision)
    np.testing.assert_allclose(prior.shift, 0.7, atol=0.03)
    np.testing.assert_allclose(prior.spread, 0.4, atol=0.03)


def test_groups_of_genes_have_priors_of_their_own():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 2000)
    rng.shuffle(groups)
    values = rng.normal(np.array([0.7, -1.0])[groups], np.array([0.4, 0.1])[groups])[:, None]
    prior = CoefficientPrior.with_unit_spread(np.zeros_like(values), groups).empirical_bayes(
        values, np.full_like(values, 1e4)
    )
    np.testing.assert_allclose(prior.shift[:, 0], np.array([0.7, -1.0])[groups], atol=0.03)
    np.testing.assert_allclose(prior.spread[:, 0], np.array([0.4, 0.1])[groups], atol=0.03)


def test_an_absent_group_learns_nothing():
    data, start, loadings, likelihood_module, *_ = simulate(400)
    groups = np.repeat([0, 1], [data.n_genes - 4, 4])
    counts = data.counts.toarray() * (groups == 0)
    offsets = np.column_stack([data.offsets, np.full(data.n_cells, ABSENT)])
    partial = CountData(sp.csr_matrix(counts), offsets, data.design, groups=groups)
    prior = fit_columns(partial, start, loadings, likelihood_module, NEW).prior
    np.testing.assert_allclose(prior.shift[groups == 1], 0, atol=1e-6)
    assert abs(prior.shift[0, 0]) > 0.01


def test_history_ends_with_the_bound_of_what_is_returned():
    data, start, loadings, likelihood_module, _, new_cells = simulate(200)
    alone = data.subset(np.flatnonzero(new_cells))
    result = fit_columns(alone, start, loadings, likelihood_module, NEW, max_iter=4)
    mean, covariance = infer(alone, result.coefficients, loadings)
    bound = elbo(alone, result.coefficients, loadings, mean, covariance).mean()
    assert bound == pytest.approx(result.history["elbo"][-1], abs=1e-3)


def test_a_gene_without_counts_has_a_finite_coefficient():
    data, start, loadings, likelihood_module, _, new_cells = simulate(200)
    counts = data.counts.toarray()
    counts[:, 3] = 0
    few = CountData(sp.csr_matrix(counts[new_cells][:5]), np.zeros(5), data.design[new_cells][:5])
    values = fit_columns(few, start, loadings, likelihood_module, NEW).coefficients[:, 2]
    assert -6 < values[3] < np.median(values)


def test_cells_of_known_categories_do_not_matter():
    data, start, loadings, likelihood_module, _, new_cells = simulate()
    alone = data.subset(np.flatnonzero(new_cells))
    values = [fit_columns(some, start, loadings, likelihood_module, NEW).coefficients for some in (data, alone)]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_order_of_cells_and_genes_does_not_matter(likelihood):
    data, start, loadings, likelihood_module, *_ = simulate(likelihood=likelihood)
    rng = np.random.default_rng(1)
    cells, genes = rng.permutation(data.n_cells), rng.permutation(data.n_genes)
    other = CountData(data.counts[cells][:, genes], data.offsets[cells], data.design[cells])
    expected = fit_columns(data, start, loadings, likelihood_module, NEW, tol=1e-6).coefficients[genes, 2]
    values = fit_columns(
        other, start[genes], loadings[genes], likelihood_module.subset(genes), NEW, tol=1e-6
    ).coefficients[:, 2]
    np.testing.assert_allclose(values, expected, atol=2e-3)


def test_several_new_columns_at_once():
    data, start, loadings, likelihood_module, truth, _ = simulate(1500)
    rng = np.random.default_rng(2)
    treated = rng.random(data.n_cells) < 0.5
    effect = rng.normal(0, 0.5, data.n_genes)
    rates = np.exp(treated[:, None] * effect)
    counts = rng.poisson(data.counts.toarray() * rates)  # of counts: a little wider than Poisson
    data = CountData(sp.csr_matrix(counts.astype(float)), data.offsets, np.column_stack([data.design, treated]))
    start = np.column_stack([start, np.zeros(data.n_genes)])
    result = fit_columns(data, start, loadings, likelihood_module, np.array([False, False, True, True]))
    assert np.corrcoef(result.coefficients[:, 2], truth)[0, 1] > 0.97
    assert np.corrcoef(result.coefficients[:, 3], effect)[0, 1] > 0.97


def one_type(n=300, *, seed=0, effect=0.3):
    """A reference's density of states with four groups of cells; counts of cells of one of these, in a new batch."""
    rng, p = np.random.default_rng(seed), 60
    centers = 2.5 * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    states = np.repeat(centers, 50, axis=0) + 0.3 * rng.normal(size=(200, 2))
    density = StateDensity.of(states, np.tile([0.02, 0.0, 0.02], (200, 1)))
    start = np.column_stack([rng.normal(1, 0.5, p), np.zeros(p)])
    loadings, truth = rng.normal(0, 0.3, (p, 2)), rng.normal(0, effect, p)
    own = centers[0] + 0.3 * rng.normal(size=(n, 2))
    counts = rng.poisson(np.exp(start[:, 0] + truth + own @ loadings.T))
    data = CountData(sp.csr_matrix(counts.astype(float)), np.zeros(n), np.ones((n, 2)))
    return data, start, loadings, density, truth, own


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_a_batch_of_one_cell_type_stays_with_it(posterior):
    """With the prior N(0, I) of states, coefficients take the cell type up."""
    data, start, loadings, density, truth, own = one_type()
    likelihood, new = make_likelihood("poisson", 60), np.array([False, True])
    far = {}
    for name, given in {"none": None, "density": density}.items():
        fit = fit_columns(data, start, loadings, likelihood, new, density=given, posterior=posterior)
        mean, _ = infer(data, fit.coefficients, loadings)
        far[name] = np.linalg.norm(mean.mean(0) - own.mean(0)), np.abs(fit.coefficients[:, 1] - truth).mean()
        assert fit.converged
    assert far["none"][0] > 2
    assert far["density"][0] < 0.3
    assert far["density"][1] < 0.05 < far["none"][1]


def test_density_is_that_of_a_mixture_and_turns_with_its_coordinates():
    *_, density, _, _ = one_type()
    points = np.random.default_rng(1).normal(0, 2, (7, 2))
    joint = np.column_stack(
        [
            np.log(weight) + multivariate_normal(mean, density.covariance).logpdf(points)
            for weight, mean in zip(density.weights, density.means, strict=True)
        ]
    )
    probable, log_density = density.assign(points, density.weights)
    constant = -0.5 * np.linalg.slogdet(2 * np.pi * density.covariance)[1]
    np.testing.assert_allclose(log_density + constant, logsumexp(joint, axis=1))
    np.testing.assert_allclose(probable, softmax(joint, axis=1), atol=1e-12)
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(2, 2)))[0]
    np.testing.assert_allclose(density.turned(axes).assign(points @ axes.T, density.weights)[0], probable)
    again = StateDensity.from_lists(density.to_lists())
    np.testing.assert_array_equal(again.assign(points, again.weights)[0], probable)


def test_anchors_split_the_density_of_a_mixture():
    """The bound of a Gaussian posterior under a mixture is that under each cell's own prior and what anchors add."""
    *_, density, _, _ = one_type()
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(0, 2, (5, 2)), 0.1 * np.eye(2)
    anchors = Anchors(density, np.array([0, 0, 1, 1, 1]))
    anchors.update(mean)
    log_weights = np.log(anchors.weights[anchors.batches])

    def expected(center):
        inside = multivariate_normal(np.zeros(2), density.covariance)
        trace = np.trace(np.linalg.solve(density.covariance, variance))
        return inside.logpdf(mean - center) - 0.5 * trace

    r = anchors.probabilities
    by_component = np.column_stack([expected(center) for center in density.means])
    direct = (r * (by_component + log_weights - np.log(r))).sum()
    direct += REFERENCE_CELLS * (density.weights * np.log(anchors.weights)).sum()
    assert expected(anchors.means).sum() + anchors.log_density() == pytest.approx(direct)
