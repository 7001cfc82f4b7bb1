"""Mixtures of cells that are known up to their posteriors: against quadrature, scikit-learn and closed forms."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.mixture import GaussianMixture

from scpln.inference.mixture import ComponentPrior, Components, Sites, conditional, expect, fit_components, fit_mixture
from scpln.inference.mixture._moves import merge, overlap, split, split_and_merge, to_number
from scpln.inference.mixture._starts import components_of_groups

NONE = ComponentPrior(cells=0, weight=0)


def packed(covariance):
    return covariance[:, *np.tril_indices(covariance.shape[1])]


def make_posteriors(n=120, q=2, seed=0, apart=1.0):
    """Cells of three components, with posteriors of different covariances under N(0, I)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    centers = np.array([[2.0, 0.0], [-1.5, 1.5], [0.0, -2.0]])[:, :q] * apart / 1.5
    state = centers[truth] + 0.3 * rng.normal(size=(n, q))
    factors = rng.normal(size=(n, q, q)) * 2
    precision = factors @ factors.transpose(0, 2, 1) + np.eye(q)  # of an unbiased estimate of the state
    noise = np.einsum("nab,nb->na", np.linalg.cholesky(np.linalg.inv(precision)), rng.normal(size=(n, q)))
    covariance = np.linalg.inv(precision + np.eye(q))
    return np.einsum("nab,nbc,nc->na", covariance, precision, state + noise), covariance, truth


@pytest.fixture(scope="module")
def cells():
    mean, covariance, truth = make_posteriors()
    return Sites.of(mean, packed(covariance)), truth


def start_of(sites, k=3):
    return components_of_groups(sites, np.arange(len(sites)) % k, k, ComponentPrior())


def test_marginals_are_those_of_quadrature():
    mean, variance = np.array([-1.0, 0.4, 2.0, 0.0]), np.array([0.1, 0.9, 0.5, 1.0])
    components = Components(np.array([[-0.7], [1.1]]), np.array([[[0.3]], [[2.0]]]), np.array([0.4, 0.6]))
    found = expect(Sites.of(mean[:, None], variance[:, None]), components)
    z = np.linspace(-30, 30, 400_001)
    prior = 0.4 * norm.pdf(z, -0.7, 0.3**0.5) + 0.6 * norm.pdf(z, 1.1, 2**0.5)
    for i in range(4):
        site = np.exp(norm.logpdf(z, mean[i], variance[i] ** 0.5) - norm.logpdf(z))
        exact = np.trapezoid(prior * site, z)
        assert found.log_likelihood[i] == pytest.approx(np.log(exact), abs=1e-8)
        first = np.trapezoid(0.4 * norm.pdf(z, -0.7, 0.3**0.5) * site, z) / exact
        assert found.responsibilities[i, 0] == pytest.approx(first, abs=1e-8)


def test_a_flat_site_says_nothing(cells):
    flat = Sites.of(np.zeros((1, 2)), packed(np.eye(2)[None]))
    components = Components(np.array([[0.3, 2.0]]), np.array([[[0.5, 0.2], [0.2, 0.9]]]), np.ones(1))
    value, mean, covariance = conditional(flat, components, 0)
    assert value == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(mean[0], components.loc[0])
    np.testing.assert_allclose(covariance[:, :, 0], components.covariance[0])


def test_standard_normal_gains_nothing(cells):
    sites, _ = cells
    standard = Components(np.zeros((1, 2)), np.eye(2)[None], np.ones(1))
    np.testing.assert_allclose(expect(sites, standard).log_likelihood, 0, atol=1e-10)


def test_conditional_moments_are_exact():
    mean, covariance, _ = make_posteriors(n=5)
    components = Components(np.array([[0.3, -1.0]]), np.array([[[0.5, 0.2], [0.2, 0.9]]]), np.ones(1))
    _, found, spread = conditional(Sites.of(mean, packed(covariance)), components, 0)
    for i in range(5):
        precision = np.linalg.inv(covariance[i]) - np.eye(2)
        exact = np.linalg.inv(precision + np.linalg.inv(components.covariance[0]))
        right = np.linalg.solve(covariance[i], mean[i]) + np.linalg.solve(components.covariance[0], components.loc[0])
        np.testing.assert_allclose(spread[:, :, i], exact, atol=1e-10)
        np.testing.assert_allclose(found[i], exact @ right, atol=1e-10)


def test_cells_without_spread_give_what_scikit_learn_gives():
    mean, _, truth = make_posteriors(n=300)
    one_hot = np.eye(3)[truth]
    sites = Sites.of(mean, np.tile([1e-9, 0, 1e-9], (300, 1)))
    ours = fit_components(sites, components_of_groups(sites, truth, 3, NONE), prior=NONE, max_iter=300, tol=1e-13)
    theirs = GaussianMixture(3, tol=1e-13, max_iter=300, reg_covar=1e-9)
    theirs.weights_init, theirs.means_init = one_hot.mean(0), (one_hot.T @ mean) / one_hot.sum(0)[:, None]
    theirs.precisions_init = np.stack([np.linalg.inv(np.cov(mean[truth == k].T, bias=True)) for k in range(3)])
    theirs.fit(mean)
    np.testing.assert_allclose(ours.components.loc, theirs.means_, atol=1e-4)
    np.testing.assert_allclose(ours.components.covariance, theirs.covariances_, atol=1e-4)
    np.testing.assert_allclose(ours.expectation.responsibilities, theirs.predict_proba(mean), atol=1e-3)
    density = ours.expectation.log_likelihood + multivariate_normal(np.zeros(2)).logpdf(mean)
    np.testing.assert_allclose(density - density.mean(), theirs.score_samples(mean) - theirs.score(mean), atol=1e-3)


@pytest.mark.parametrize("prior", [NONE, ComponentPrior(), ComponentPrior(cells=3, scale=2.0, weight=0.5)])
def test_objective_rises_in_every_step(cells, prior):
    sites, _ = cells
    history = np.array(fit_components(sites, start_of(sites), prior=prior, max_iter=60, tol=0).history)
    assert len(history) > 50
    assert (np.diff(history) > -1e-6).all()


def test_one_component_is_the_normal_approximation(cells):
    """Its optimum is a fixed point: the mean and covariance of the cells' posteriors under it."""
    sites, _ = cells
    fit = fit_components(sites, start_of(sites, 1), prior=NONE, max_iter=3000, tol=1e-13)
    _, mean, covariance = conditional(sites, fit.components, 0)
    np.testing.assert_allclose(fit.components.loc[0], mean.mean(0), atol=1e-5)
    spread = np.cov(mean.T, bias=True) + covariance.mean(2)
    np.testing.assert_allclose(fit.components.covariance[0], spread, atol=1e-5)
    assert fit.components.weights == 1


def test_order_of_components_does_not_matter(cells):
    sites, _ = cells
    start, order = start_of(sites), np.array([2, 0, 1])
    one, other = (fit_components(sites, s, tol=0, max_iter=20) for s in (start, start.select(order)))
    np.testing.assert_allclose(one.components.loc[order], other.components.loc, atol=1e-8)
    np.testing.assert_allclose(one.history, other.history, atol=1e-7)


def test_finds_the_components(cells):
    sites, truth = cells
    found = fit_mixture(sites, 3, prior=ComponentPrior(cells=2)).expectation.responsibilities.argmax(1)
    table = np.zeros((3, 3))
    np.add.at(table, (truth, found), 1)
    assert table.max(1).sum() / len(truth) > 0.9
    assert len(set(table.argmax(1))) == 3


def test_number_of_components_is_found():
    mean, covariance, _ = make_posteriors(n=400, seed=3, apart=1.5)
    fit = fit_mixture(Sites.of(mean, packed(covariance)), None, prior=ComponentPrior(cells=2))
    assert fit.components.n_components == 3
    rng = np.random.default_rng(0)
    one = Sites.of(rng.normal(size=(300, 2)) * 0.8, np.tile([0.3, 0, 0.3], (300, 1)))
    assert fit_mixture(one, None).components.n_components == 1


def test_known_components_stay(cells):
    sites, truth = cells
    known = np.where(np.arange(len(truth)) % 2 == 0, truth, -1)
    known[truth == 2] = -1
    fit = fit_mixture(sites, 3, known=known)
    given = known >= 0
    assert (fit.expectation.responsibilities.argmax(1)[given] == known[given]).all()
    assert (np.diff(fit.history) > -1e-6).all()
    assert (fit.expectation.responsibilities.argmax(1) == truth).mean() > 0.9


def test_given_groups_are_a_start(cells):
    """One that ends with a better bound is taken."""
    sites, truth = cells
    without, given = fit_mixture(sites, 3), fit_mixture(sites, 3, groups=[lambda states, seed: truth])
    assert given.objective >= without.objective - 1e-3 * len(sites)


@pytest.mark.parametrize("case", ["more components than cells", "duplicates", "one dominates", "one cell"])
def test_degenerate_cells(case):
    mean, covariance, _ = make_posteriors(n=40)
    k = 4
    if case == "more components than cells":
        mean, covariance, k = mean[:3], covariance[:3], 6
    elif case == "duplicates":
        mean, covariance = np.repeat(mean[:1], 40, 0), np.repeat(covariance[:1], 40, 0)
    elif case == "one dominates":
        mean[1:] = mean[:1] + 1e-3 * mean[1:]
    else:
        mean, covariance = mean[:1], covariance[:1]
    fit = fit_mixture(Sites.of(mean, packed(covariance)), k)
    assert fit.components.n_components == k
    assert np.isfinite(fit.objective)
    np.testing.assert_allclose(fit.expectation.responsibilities.sum(1), 1)
    assert (np.linalg.eigvalsh(fit.components.covariance) > 0).all()
    assert fit_mixture(Sites.of(mean, packed(covariance)), None).components.n_components >= 1


def test_merging_halves_gives_the_whole_back(cells):
    sites, _ = cells
    components = fit_components(sites, start_of(sites)).components
    halves = split(components, 1)
    assert halves.n_components == 4
    whole = merge(halves, 1, 3)
    for name in ("loc", "covariance", "weights"):
        np.testing.assert_allclose(getattr(whole, name), getattr(components, name), atol=1e-12)


def test_overlap_is_of_the_two_halves(cells):
    sites, truth = cells
    components = components_of_groups(sites, truth, 3, ComponentPrior(cells=1))
    shares = overlap(expect(sites, split(components, 0)).responsibilities)
    assert set(np.unravel_index(shares.argmax(), shares.shape)) == {0, 3}


def test_moves_leave_a_local_optimum(cells):
    """Two components in one group of cells and one in two others: a merge and a split mend it."""
    sites, truth = cells
    prior = ComponentPrior(cells=2)
    bad = np.where(truth == 0, np.arange(len(truth)) % 2, 2)
    stuck = fit_components(sites, components_of_groups(sites, bad, 3, prior), prior=prior)
    moved = split_and_merge(sites, stuck, prior)
    best = fit_components(sites, components_of_groups(sites, truth, 3, prior), prior=prior)
    assert moved.objective > stuck.objective
    assert moved.objective == pytest.approx(best.objective, abs=0.05 * len(sites))
    assert to_number(sites, moved, 5, prior).components.n_components == 5
    assert to_number(sites, moved, 1, prior).components.n_components == 1
