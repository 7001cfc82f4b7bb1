"""Errors of coefficients, against differences of profiled scores, generalised linear models, and each other."""

import numpy as np
import pytest
import statsmodels.api as sm

from scpln.core import threads
from scpln.inference import CountData, fit_gaussians, infer_pln, make_cell_problem
from scpln.inference.genespace import fit_pln
from scpln.inference.newton import FAMILIES, CellStates, GeneParameters
from scpln.inference.uncertainty import (
    FactorSandwich,
    ProfiledCells,
    Sandwich,
    covariance_directions,
    factor_sandwich,
    gene_space_sandwich,
)
from scpln.inference.uncertainty._directions import Columns, Combinations, Scales
from scpln.module import make_likelihood
from scpln.module.covariances import Diagonal, Fixed, Full

P, D = 4, 3


def draw(n, p=P, d=D, *, seed=0, level=0.5, q=None):
    random = np.random.default_rng(seed)
    root = 0.6 * random.standard_normal((p, q or p)) + (0.0 if q else 0.5 * np.eye(p))
    design = np.column_stack([np.ones(n), random.standard_normal((n, d - 1))])
    coefficients = 0.4 * random.standard_normal((p, d)) + np.array([level] + [0.0] * (d - 1))
    counts = random.poisson(np.exp(design @ coefficients.T + random.standard_normal((n, root.shape[1])) @ root.T))
    return CountData(counts.astype(float), np.zeros(n), design), coefficients, root @ root.T


def at(data, coefficients, covariance, directions, posterior):
    """Cells at their optimum under given parameters, and their bounds."""
    found = infer_pln(data, coefficients, Fixed(len(covariance), covariance), posterior=posterior, n_threads=1)
    rates = np.exp(found.mean + 0.5 * found.variance)
    precision = np.linalg.inv(covariance) if posterior == "meanfield" else None
    return ProfiledCells(data.counts - rates, rates, data.design, covariance, directions, precision), found.elbo


def families(covariance):
    """Names of parameters of Σ, where they are, and Σ and its directions as functions of them."""
    p = len(covariance)
    relation = np.exp(-np.abs(np.subtract.outer(np.arange(p), np.arange(p))))
    matrices, root = np.stack([relation, np.eye(p)]), np.linalg.cholesky(covariance)

    def scaled(x):
        return covariance * np.exp(x)[:, None] * np.exp(x)

    return {
        "columns": (root.ravel(), lambda x: x.reshape(p, p) @ x.reshape(p, p).T, lambda x: Columns(x.reshape(p, p))),
        "scales": (np.zeros(p), scaled, lambda x: Scales(scaled(x))),
        "combinations": (
            np.array([0.7, 0.4]),
            lambda x: np.tensordot(x, matrices, 1),
            lambda _: Combinations(matrices),
        ),
    }


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
@pytest.mark.parametrize("name", ["columns", "scales", "combinations"])
def test_scores_and_curvature_are_differences_of_profiled_bounds_and_scores(name, posterior):
    data, coefficients, covariance = draw(7)
    start, sigma, directions = families(covariance)[name]
    theta = np.concatenate([coefficients.ravel(), start])

    def cells_at(theta):
        b, x = theta[: P * D].reshape(P, D), theta[P * D :]
        return at(data, b, sigma(x), directions(x), posterior)

    h = 1e-4
    cells, _ = cells_at(theta)
    with threads(1) as pool:
        scores, curvature = cells.scores(pool), cells.curvature(pool)
        for number in range(len(theta)):
            step = np.zeros(len(theta))
            step[number] = h
            (above, higher), (below, lower) = cells_at(theta + step), cells_at(theta - step)
            np.testing.assert_allclose(scores[:, number], (higher - lower) / (2 * h), atol=1e-4)
            slope = (below.scores(pool).sum(0) - above.scores(pool).sum(0)) / (2 * h)
            np.testing.assert_allclose(curvature[:, number], slope, rtol=1e-5, atol=5e-4)


@pytest.mark.parametrize("size", [1, 20])
def test_blocks_of_cells_do_not_matter(monkeypatch, size):
    data, coefficients, covariance = draw(30)
    cells, _ = at(data, coefficients, covariance, Scales(covariance), "fullrank")
    with threads(1) as pool:
        whole = cells.curvature(pool)
        monkeypatch.setattr("scpln.inference.uncertainty._profile_curvature.BLOCK_ENTRIES", size * P * P)
        np.testing.assert_allclose(cells.curvature(pool), whole, rtol=1e-10, atol=1e-10)


def sandwich_of(data, covariance, family, *, prior_precision=0.0, posterior="fullrank"):
    fit = fit_pln(data, covariance, prior_precision=prior_precision, posterior=posterior, tol=1e-10, n_threads=1)
    sigma = fit.covariance.dense
    rates = np.exp(fit.mean + 0.5 * fit.variance)
    directions = covariance_directions(sigma, np.zeros((len(sigma), 0)), family)
    with threads(1) as pool:
        mean_field = posterior == "meanfield"
        cells = data.design, data.counts - rates, rates
        return fit, gene_space_sandwich(*cells, sigma, directions, prior_precision, pool, mean_field=mean_field)


def test_without_a_latent_state_it_is_that_of_poisson_regressions():
    data, _, _ = draw(150, seed=1)
    fit, sandwich = sandwich_of(data, Fixed(P, 1e-9 * np.eye(P)), "fixed")
    groups = np.arange(150) % 12
    for gene in range(P):
        model = sm.GLM(data.counts[:, gene], data.design, family=sm.families.Poisson())
        expected = model.fit(cov_type="HC0", tol=1e-12)
        np.testing.assert_allclose(fit.coefficients[gene], expected.params, atol=1e-5)
        np.testing.assert_allclose(sandwich.coefficients("sandwich").covariance[gene], expected.cov_params(), rtol=1e-4)
        by_group = model.fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, tol=1e-12)
        found = sandwich.coefficients("sandwich", groups).covariance[gene]
        np.testing.assert_allclose(found, 12 / 11 * by_group.cov_params(), rtol=1e-4)
        np.testing.assert_allclose(
            sandwich.coefficients("model").covariance[gene], model.fit(tol=1e-12).cov_params(), rtol=1e-4
        )
        leverage = expected.get_hat_matrix_diag()
        residual = (data.counts[:, gene] - expected.mu) / (1 - leverage)
        bread = np.linalg.inv((data.design * expected.mu[:, None]).T @ data.design)
        hc3 = bread @ ((data.design * residual[:, None] ** 2).T @ data.design) @ bread
        np.testing.assert_allclose(sandwich.coefficients("hc3").covariance[gene], hc3, rtol=1e-4)


def test_clusters_that_leave_one_out_are_as_leaving_them_out():
    data, _, _ = draw(60, p=3, seed=2, level=1.5)
    groups = np.arange(60) // 5
    fit, sandwich = sandwich_of(data, Fixed(3, 0.2 * np.eye(3)), "fixed")
    without = []
    for group in range(12):
        kept = groups != group
        part = CountData(data.counts[kept], np.zeros(kept.sum()), data.design[kept])
        without.append(fit_pln(part, Fixed(3, 0.2 * np.eye(3)), prior_precision=0, tol=1e-10, n_threads=1).coefficients)
    jackknife = np.sqrt(11 / 12 * np.square(without - fit.coefficients).sum(0))
    np.testing.assert_allclose(sandwich.coefficients("hc3", groups).standard_errors, jackknife, rtol=0.08)


def test_order_of_genes_and_cells_does_not_matter():
    data, _, _ = draw(80, seed=3)
    _, sandwich = sandwich_of(data, Full(P), "full")
    genes, cells = np.array([2, 0, 3, 1]), np.random.default_rng(0).permutation(80)
    other = CountData(data.counts[cells][:, genes], data.offsets, data.design[cells])
    _, permuted = sandwich_of(other, Full(P), "full")
    expected = sandwich.coefficients("hc3").covariance[genes]
    np.testing.assert_allclose(permuted.coefficients("hc3").covariance, expected, rtol=2e-3, atol=1e-6)


def test_cells_that_are_there_twice_say_no_more_as_one_cluster():
    data, coefficients, covariance = draw(50, seed=4)
    twice = CountData(np.vstack([data.counts] * 2), np.zeros(100), np.vstack([data.design] * 2))
    pairs = np.tile(np.arange(50), 2)
    with threads(1) as pool:
        once, doubled = (
            Sandwich.of(at(one, coefficients, covariance, Scales(covariance), "fullrank")[0], np.zeros((16, 16)), pool)
            for one in (data, twice)
        )
    expected = once.coefficients("sandwich", np.arange(50)).covariance
    np.testing.assert_allclose(doubled.coefficients("sandwich", pairs).covariance, expected, rtol=1e-9)
    assert (doubled.coefficients("sandwich").covariance[:, 0, 0] < 0.6 * expected[:, 0, 0]).all()


def test_a_gene_by_itself_has_the_errors_it_has_beside_independent_genes():
    data, _, _ = draw(120, seed=5)
    _, together = sandwich_of(data, Diagonal(P), "diagonal")
    alone = CountData(data.counts[:, [2]], data.offsets, data.design)
    _, single = sandwich_of(alone, Full(1), "full")
    expected = single.coefficients("sandwich").covariance[0]
    np.testing.assert_allclose(together.coefficients("sandwich").covariance[2], expected, rtol=1e-3)


def test_a_prior_bounds_the_error_of_what_no_cell_tells():
    data, _, _ = draw(60, d=2, seed=6)
    data.design[:, 1] = np.arange(60) % 2
    data.counts[data.design[:, 1] == 1, 0] = 0  # a level that never shows the gene
    _, sandwich = sandwich_of(data, Full(P), "full", prior_precision=1e-2)
    errors = sandwich.coefficients("sandwich").standard_errors
    assert 1 < errors[0, 1] < 11
    assert (errors[1:, 1] < 1).all()


def test_of_few_parameters_that_of_loadings_is_that_of_gene_space():
    data, _, _ = draw(150, p=5, d=2, q=1, seed=7, level=1.0)
    fit = fit_gaussians(data, 1, make_likelihood("poisson", 5), tol=1e-10, max_iter=3000, n_threads=1)
    sigma = fit.loadings @ fit.loadings.T
    cells, _ = at(data, fit.coefficients, sigma + 1e-10 * np.eye(5), Columns(fit.loadings), "fullrank")
    with threads(1) as pool:
        problem = make_cell_problem(data, FAMILIES["fullrank"](1), make_likelihood("poisson", 5), pool)
        genes, states = GeneParameters(fit.coefficients, fit.loadings), CellStates.known(fit.mean, fit.covariance)
        found = factor_sandwich(problem, genes, states, np.zeros(5, int), pool)
        expected = Sandwich.of(cells, np.zeros((15, 15)), pool)
        assert isinstance(found, Sandwich)
        for method in ("sandwich", "hc3", "model"):
            a, b = found.coefficients(method), expected.coefficients(method)
            np.testing.assert_allclose(a.covariance, b.covariance, rtol=2e-3, atol=1e-8)


@pytest.mark.parametrize("prior", ["none", "learned"])
@pytest.mark.parametrize("method", ["hc3", "sandwich", "model"])
def test_of_many_genes_both_agree(prior, method):
    data, _, _ = draw(300, p=60, d=3, q=2, seed=8, level=0.5)
    fit = fit_gaussians(data, 2, make_likelihood("poisson", 60), prior=prior, tol=1e-8, n_threads=1)
    genes, states = (
        GeneParameters(fit.coefficients, fit.loadings, fit.spread),
        CellStates.known(fit.mean, fit.covariance),
    )
    groups = None if method == "model" else np.arange(300) // 10
    with threads(1) as pool:
        problem = make_cell_problem(data, FAMILIES["fullrank"](2), make_likelihood("poisson", 60), pool)
        whole = factor_sandwich(problem, genes, states, np.zeros(60, int), pool)
        parts = FactorSandwich.of(problem, genes, states, np.zeros(60, int))
        assert isinstance(whole, Sandwich)
        for clusters in {None: None, "groups": groups}.values():
            a, b = whole.coefficients(method, clusters), parts.coefficients(method, clusters)
            ratio = b.standard_errors / a.standard_errors
            assert np.abs(np.log(np.median(ratio, 0))).max() < 0.05
            assert np.abs(np.log(ratio)).max() < 0.25


def test_units_of_covariates_turn_covariances_with_them():
    data, _, _ = draw(80, seed=9)
    _, sandwich = sandwich_of(data, Full(P), "full")
    errors = sandwich.coefficients("sandwich", joint=True)
    unit = np.array([[1.0, -3.0, 0.5], [0.0, 2.0, 0.0], [0.0, 0.0, 0.1]])
    moved = CountData(data.counts, data.offsets, data.design @ np.linalg.inv(unit))
    _, other = sandwich_of(moved, Full(P), "full")
    found, expected = other.coefficients("sandwich", joint=True), errors.transformed(unit)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=2e-3, atol=1e-7)
    np.testing.assert_allclose(found.joint, expected.joint, rtol=2e-3, atol=1e-5)
    blocks = expected.joint.reshape(P, D, P, D)
    np.testing.assert_allclose(blocks[1, :, 1], expected.covariance[1], rtol=1e-9)


def test_a_singular_covariance_leaves_errors_of_coefficients_as_they_are():
    data, _, _ = draw(120, q=1, seed=11, level=1.0)
    fit, sandwich = sandwich_of(data, Full(P), "full")
    assert np.linalg.eigvalsh(fit.covariance.dense)[0] < 1e-4
    _, scales = sandwich_of(data, Full(P), "other")
    for method in ("hc3", "model"):
        ratio = sandwich.coefficients(method).standard_errors / scales.coefficients(method).standard_errors
        assert np.abs(np.log(ratio)).max() < 0.1
