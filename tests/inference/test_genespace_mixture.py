"""Mixtures in gene space, against one component, enumeration, quadrature, numerical slopes, and published values."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy.special import gammaln, logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from scpln.core import threads
from scpln.inference import CountData, Entries
from scpln.inference.genespace import fit_pln, infer_pln
from scpln.inference.genespace._infer import FAMILIES, MAX_STEPS, TOLERANCE
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace.mixture import (
    MixtureParameters,
    _moves,
    _posteriors,
    _profile,
    _run,
    _search,
    fit_pln_groups,
    fit_pln_mixture,
    infer_pln_mixture,
)
from scpln.module.covariances import Diagonal, Factor, Fixed, Full, Spherical

POSTERIORS = ["fullrank", "meanfield"]


def two_factors(p):
    return Factor(p, 2)


FAMILIES_OF = {"full": Full, "diagonal": Diagonal, "spherical": Spherical, "factor": two_factors}


def draw(n, p, k, d=1, *, seed=0, apart=3.0, spread=0.4):
    """Counts of k groups, and the group of each cell."""
    random = np.random.default_rng(seed)
    groups = np.arange(n) % k
    means = 2 + apart * random.standard_normal((k, p)) / np.sqrt(2)
    design = np.column_stack([np.ones(n), random.standard_normal((n, d - 1))])
    slopes = 0.4 * random.standard_normal((p, d - 1))
    root = spread * (np.eye(p) + 0.5 * random.standard_normal((p, p)) / np.sqrt(p))
    offsets = 0.2 * random.standard_normal(n)
    log_rates = means[groups] + design[:, 1:] @ slopes.T + random.standard_normal((n, p)) @ root.T
    return CountData(random.poisson(np.exp(offsets[:, None] + log_rates)), offsets, design), groups


def parameters(p, k, d=1, seed=0, family=Full):
    """Any mixture."""
    random = np.random.default_rng(seed)
    covariances = []
    for _ in range(k):
        root = 0.4 * random.standard_normal((p, p))
        covariance = family(p)
        covariance.update(root @ root.T + 0.2 * np.eye(p))
        covariances.append(covariance)
    weights = random.dirichlet(np.full(k, 5.0))
    return MixtureParameters(
        weights, 1.5 + random.standard_normal((k, p)), 0.3 * random.standard_normal((p, d - 1)), covariances
    )


def total(result):
    return result.elbo.sum()


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("covariance", FAMILIES_OF)
def test_one_component_is_the_model_without_a_mixture(covariance, posterior):
    data, _ = draw(40, 4, 1, 2)
    one = fit_pln_mixture(data, FAMILIES_OF[covariance](4), 1, posterior=posterior, tol=1e-9)
    alone = fit_pln(data, FAMILIES_OF[covariance](4), posterior=posterior, tol=1e-9)
    assert total(one) == pytest.approx(total(alone), abs=1e-6 * 40)
    assert one.parameters.coefficients == pytest.approx(alone.coefficients, abs=1e-3)
    assert one.parameters.n_parameters == alone.coefficients.size + alone.covariance.n_parameters
    assert np.all(one.responsibilities == 1)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_responsibilities_are_exact_given_the_bounds(posterior):
    data, given = draw(30, 3, 2, 2)[0], parameters(3, 3, 2)
    found = infer_pln_mixture(data, given, posterior=posterior)
    bounds = np.stack(
        [infer_pln(data, given.coefficients_of(k), given.covariances[k], posterior=posterior).elbo for k in range(3)],
        1,
    )
    joint = bounds + np.log(given.weights)
    assert found.responsibilities == pytest.approx(softmax(joint, 1), abs=1e-8)
    assert found.elbo == pytest.approx(logsumexp(joint, 1), abs=1e-8)
    other = np.random.default_rng(0).dirichlet(np.ones(3), size=30)
    assert ((other * (joint - np.log(other))).sum(1) <= found.elbo + 1e-9).all()


@pytest.mark.parametrize("p", [1, 2])
def test_it_is_a_bound(p):
    data, given = draw(25, p, 2)[0], parameters(p, 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(*[nodes] * p, indexing="ij"), -1).reshape(-1, p)
    mass = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * p, indexing="ij"), -1).reshape(-1, p), 1)
    parts = []
    for k in range(2):
        cells = infer_pln(data, given.coefficients_of(k), given.covariances[k])
        values = np.empty(25)
        for i in range(25):  # nodes at the posterior, 1.5 times as wide
            root = 1.5 * np.diag(np.sqrt(cells.variance[i]))
            states = cells.mean[i] + grid @ root
            log_rates = data.offsets[i] + states
            log_joint = (data.counts[i] * log_rates - np.exp(log_rates) - gammaln(data.counts[i] + 1)).sum(1)
            log_joint += multivariate_normal(given.means[k], given.covariances[k].dense).logpdf(states)
            log_weight = np.log(mass) - multivariate_normal(np.zeros(p), np.eye(p)).logpdf(grid)
            values[i] = logsumexp(log_joint + log_weight) + np.log(np.abs(np.linalg.det(root)))
        parts.append(values + np.log(given.weights[k]))
    exact = logsumexp(parts, 0)
    found = infer_pln_mixture(data, given).elbo
    assert (found <= exact + 1e-6).all()
    assert found == pytest.approx(exact, abs=0.1)


def profile_of(data, given, posterior, prior_precision=0.3):
    pool = threads(1).__enter__()
    observations = Observations.of(data)
    posteriors = _posteriors.ComponentPosteriors(FAMILIES[posterior], observations, given.n_components)
    made = _profile.MixtureProfile(copy.deepcopy(given), posteriors, prior_precision, pool)
    made.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
    return made


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("family", [Full, Diagonal, Spherical, two_factors])
def test_slopes_are_numerical_slopes(family, posterior):
    made = profile_of(draw(20, 3, 2, 2)[0], parameters(3, 2, 2, family=family), posterior)
    point, slope, step = made.point, made.slope, 1e-4
    numerical = np.empty_like(point)
    for j in range(len(point)):
        values = []
        for sign in (1, -1):
            moved = point.copy()
            moved[j] += sign * step
            made.move(moved)
            made.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
            values.append(made.objective)
        numerical[j] = (values[0] - values[1]) / (2 * step)
    assert slope == pytest.approx(numerical, abs=2e-4, rel=1e-5)


def test_the_metric_is_symmetric_and_positive():
    made = profile_of(draw(30, 3, 2, 3)[0], parameters(3, 2, 3), "fullrank")
    metric = made.metric()
    matrix = np.stack([metric(row) for row in np.eye(len(made.point))])
    assert matrix == pytest.approx(matrix.T, abs=1e-10)
    assert np.linalg.eigvalsh(matrix).min() > 0


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("family", [Full, two_factors])
def test_a_step_in_closed_form_does_not_lower_the_bound(family, posterior):
    made = profile_of(draw(40, 4, 2, 2)[0], parameters(4, 3, 2, family=family), posterior)
    values = [made.objective]
    for _ in range(5):
        made.maximize_given_posteriors()
        made.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
        values.append(made.objective)
    assert (np.diff(values) > -1e-6).all()
    assert values[-1] > values[0] + 1


@pytest.mark.parametrize("family", [Full, two_factors])
def test_iterations_do_not_lower_the_bound(family):
    result = fit_pln_mixture(draw(60, 4, 2, 2)[0], family(4), 2)
    assert result.converged
    assert (np.diff(result.history["objective"]) > -1e-9).all()
    assert total(result) / 60 == pytest.approx(result.history["elbo"][-1], abs=1e-4)


@pytest.mark.parametrize("covariance", FAMILIES_OF)
def test_components_are_found_and_icl_says_how_many(covariance):
    data, groups = draw(90, 4, 3, 2, seed=3)
    result = fit_pln_mixture(data, FAMILIES_OF[covariance](4))
    assert result.parameters.n_components == 3
    assert adjusted_rand_score(groups, result.responsibilities.argmax(1)) >= 0.9
    assert [each.n_components for each in result.criteria][:4] == [1, 2, 3, 4]
    bounds = [each.bound for each in result.criteria]
    assert (np.diff(bounds) > 0).all()
    assert (np.diff(result.parameters.weights) <= 0).all()


def test_many_factors_are_a_full_covariance():
    """Of four genes, three factors and a variance each reach any Σ; of fewer the bound is lower, and the criteria count 4 q − q (q − 1) / 2 + 4."""
    data, _ = draw(120, 4, 2, 2, seed=3, apart=1.0)
    full = fit_pln_mixture(data, Full(4), 2, tol=1e-8)
    by_number = [fit_pln_mixture(data, Factor(4, q), 2, tol=1e-8) for q in (1, 2, 3)]
    assert total(by_number[2]) == pytest.approx(total(full), abs=0.01)
    one, other = (each.parameters.select(np.argsort(each.parameters.means[:, 0])) for each in (full, by_number[2]))
    assert other.means == pytest.approx(one.means, abs=0.01)
    for k in range(2):
        assert other.covariances[k].dense == pytest.approx(one.covariances[k].dense, abs=0.01)
    assert (np.diff([total(each) for each in by_number]) >= -1e-3).all()
    of_diagonal = fit_pln_mixture(data, Diagonal(4), 2, tol=1e-8)
    assert total(of_diagonal) < total(by_number[0])
    free = [each.parameters.n_parameters - (1 + 2 * 4 + 4) for each in by_number]
    assert free == [2 * 8, 2 * 10, 2 * 10]
    assert full.parameters.n_parameters - (1 + 2 * 4 + 4) == 2 * 10


def test_factors_of_components_are_recovered():
    random = np.random.default_rng(0)
    loadings = [np.array([0.9, 0.7, 0.6, 0, 0, 0]), np.array([0, 0, 0, 0.6, 0.8, -0.9])]
    means, groups = np.array([[2.0] * 6, [4.0, 0.5] * 3]), np.arange(1200) % 2
    states = means[groups] + 0.3 * random.standard_normal((1200, 6))
    states += random.standard_normal((1200, 1)) * np.stack(loadings)[groups]
    data = CountData(random.poisson(np.exp(states)), np.zeros(1200), np.ones((1200, 1)))
    found = fit_pln_mixture(data, Factor(6, 1), 2).parameters
    order = np.argsort(found.means[:, 0])
    for k, true in zip(order, loadings, strict=True):
        got = found.covariances[k].loadings[:, 0]
        assert got * np.sign(got @ true) == pytest.approx(true, abs=0.15)
        assert found.covariances[k].uniquenesses == pytest.approx(np.full(6, 0.09), abs=0.08)


def test_the_order_of_genes_and_cells_does_not_matter():
    data, _ = draw(60, 4, 3, 2, seed=1)
    random = np.random.default_rng(0)
    cells, genes = random.permutation(60), random.permutation(4)
    moved = CountData(data.counts[cells][:, genes], data.offsets[cells], data.design[cells])
    one, other = (fit_pln_mixture(each, Full(4), 3, tol=1e-8) for each in (data, moved))
    assert total(other) == pytest.approx(total(one), abs=1e-3)
    assert other.parameters.means == pytest.approx(one.parameters.means[:, genes], abs=2e-2)
    assert other.responsibilities == pytest.approx(one.responsibilities[cells], abs=1e-3)


def test_entries_that_were_not_observed_have_no_part():
    data, groups = draw(60, 5, 2, seed=2)
    observed = np.random.default_rng(0).random((60, 5)) > 0.2
    hidden = replace(data, entries=Entries(observed=observed))
    other = replace(data, counts=np.where(observed, data.counts, 999), entries=Entries(observed=observed))
    one, two = (fit_pln_mixture(each, Spherical(5), 2) for each in (hidden, other))
    assert total(one) == total(two)
    assert adjusted_rand_score(groups, one.responsibilities.argmax(1)) >= 0.9


def test_more_components_than_kinds_of_cells_have_a_defined_result():
    counts = np.tile([[3, 0, 5], [0, 9, 1]], (6, 1))
    data = CountData(np.vstack([counts, np.zeros((2, 3), int)]), np.zeros(14), np.ones((14, 1)))
    result = fit_pln_mixture(data, Full(3), 5)
    assert result.parameters.n_components == 5
    assert np.isfinite(result.elbo).all()
    assert result.responsibilities.sum(1) == pytest.approx(np.ones(14))
    assert all(np.isfinite(each.dense).all() for each in result.parameters.covariances)
    with pytest.raises(ValueError, match="n_components=15, but there are 14 cells"):
        fit_pln_mixture(data, Full(3), 15)


def test_an_empty_component_stays_empty():
    data, _ = draw(30, 3, 1)
    given = parameters(3, 2)
    given.means[1] += 50
    made = profile_of(data, given, "fullrank")
    for _ in range(3):
        made.maximize_given_posteriors()
        made.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
    assert np.isfinite(made.objective)
    assert np.isfinite(made.metric()(made.slope)).all()
    assert made.parameters.weights[1] < 1e-6


@pytest.mark.parametrize("when", [1, 12, 30, 60])
def test_an_interrupt_keeps_the_best(when):
    data, _ = draw(50, 4, 3, seed=4)
    seen = []

    def interrupt(number, bound):
        seen.append(bound)
        if len(seen) == when:
            raise KeyboardInterrupt

    result = fit_pln_mixture(data, Diagonal(4), 3, on_iteration=interrupt)
    assert result.interrupted
    assert not result.converged
    assert result.parameters.n_components == 3
    assert np.isfinite(result.elbo).all()
    several = []

    def later(number, bound):
        several.append(bound)
        if len(several) == when:
            raise KeyboardInterrupt

    assert fit_pln_mixture(data, Diagonal(4), [1, 2, 3], on_iteration=later).interrupted


def test_the_same_seed_gives_the_same():
    data, _ = draw(40, 3, 2, seed=5)
    one, two = (fit_pln_mixture(data, Full(3), 2, seed=3, n_threads=1) for _ in range(2))
    assert np.array_equal(one.responsibilities, two.responsibilities)


def test_a_merged_component_has_the_moments_of_two():
    given = parameters(3, 3)
    merged = _moves.merge(given, 0, 2)
    pair = given.weights[[0, 2]] / given.weights[[0, 2]].sum()
    mean = pair @ given.means[[0, 2]]
    second = sum(
        w * (given.covariances[k].dense + np.outer(given.means[k], given.means[k]))
        for w, k in zip(pair, (0, 2), strict=True)
    )
    assert merged.means[0] == pytest.approx(mean)
    assert merged.covariances[0].dense == pytest.approx(second - np.outer(mean, mean))
    assert merged.weights == pytest.approx([given.weights[0] + given.weights[2], given.weights[1]])
    assert merged.covariances[1].dense == pytest.approx(given.covariances[1].dense)


def test_moves_leave_a_poor_optimum():
    """Two of three groups start as one, and the third as two."""
    data, groups = draw(90, 4, 3, seed=6)
    one = fit_pln(data, Diagonal(4))
    wrong = np.where(groups == 2, np.arange(90) % 2, 2)
    with threads(1) as pool:
        runner = _run.Runner(Observations.of(data), FAMILIES["meanfield"], 0.0, 200, 1e-5, pool)
        start = _search.of_groups(one.mean, one.variance, wrong, 3, one.coefficients[:, 1:], Diagonal(4))
        stuck = runner.finish(runner.short(start))
        moved = _moves.split_and_merge(runner, stuck, 0)
    assert moved.objective >= stuck.objective
    assert adjusted_rand_score(groups, moved.groups) >= 0.9


def test_groups_are_columns_of_the_design():
    data, groups = draw(60, 4, 3, 2, seed=7, apart=1.0)
    mixture, fit = fit_pln_groups(data, Full(4), groups, np.full(3, 1 / 3), prior_precision=0.0, tol=1e-8)
    dummies = replace(data, design=np.column_stack([data.design, groups[:, None] == [1, 2]]).astype(float))
    plain = fit_pln(dummies, Full(4), prior_precision=0.0, tol=1e-8)
    assert total(fit) == pytest.approx(total(plain), abs=1e-3)
    intercepts = plain.coefficients[:, 0] + np.column_stack([np.zeros(4), plain.coefficients[:, 2:]]).T
    assert mixture.means == pytest.approx(intercepts, abs=1e-2)
    shuffled, _ = fit_pln_groups(data, Full(4), 2 - groups, np.full(3, 1 / 3), prior_precision=5.0, tol=1e-8)
    ordered, _ = fit_pln_groups(data, Full(4), groups, np.full(3, 1 / 3), prior_precision=5.0, tol=1e-8)
    assert shuffled.means[::-1] == pytest.approx(ordered.means, abs=1e-3)


def test_probabilities_of_groups_are_nearly_exact_where_the_model_is():
    """Bayes' rule with the truth, by draws, against the bounds of a mixture with the same parameters."""
    given = parameters(2, 2, seed=3)
    random = np.random.default_rng(1)
    groups = random.integers(0, 2, 200)
    states = np.stack([random.multivariate_normal(given.means[k], given.covariances[k].dense) for k in groups])
    data = CountData(random.poisson(np.exp(states)), np.zeros(200), np.ones((200, 1)))
    prior = [random.multivariate_normal(given.means[k], given.covariances[k].dense, 40_000) for k in range(2)]
    log_prob = np.stack(
        [
            np.log(given.weights[k])
            + np.array([logsumexp((y * z - np.exp(z)).sum(1)) for y in data.counts for z in [prior[k]]])
            for k in range(2)
        ],
        1,
    )
    found = infer_pln_mixture(data, given).responsibilities
    assert np.abs(found - softmax(log_prob, 1)).mean() < 0.02


@pytest.mark.skipif("SCPLN_DATA" not in os.environ, reason="SCPLN_DATA names no folder")
def test_trichoptera_is_above_the_published_fits():
    """Spherical, k = 1 to 4, by R's PLNmodels 1.3, whose posteriors are mean-field (as full rank is, for this family)."""
    counts = ad.read_h5ad(Path(os.environ["SCPLN_DATA"]) / "pln_trichoptera.h5ad").X
    counts = counts.toarray() if hasattr(counts, "toarray") else counts
    data = CountData(counts, np.log(counts.sum(1)), np.ones((len(counts), 1)))
    result = fit_pln_mixture(data, Spherical(17), [1, 2, 3, 4], posterior="meanfield")
    published = [-1158.76, -1111.24, -1085.96, -1053.60]
    assert (np.array([each.bound for each in result.criteria]) >= published).all()


def test_fixed_covariances_are_of_a_mixture_too():
    data, groups = draw(60, 3, 2, seed=8)
    result = fit_pln_mixture(data, Fixed(3, 0.2 * np.eye(3)), 2)
    assert result.parameters.covariances[1].dense == pytest.approx(0.2 * np.eye(3))
    assert adjusted_rand_score(groups, result.responsibilities.argmax(1)) >= 0.9
