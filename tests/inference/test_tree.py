"""Counts on a tree: against quadrature, dense optimisation, the model without a tree, and finite differences."""

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import binom, multivariate_normal, norm, poisson

from scpln.core import CountData, Entries, Tree, TreeContrasts, threads
from scpln.inference.genespace import fit_pln
from scpln.inference.tree import fit_pln_tree, infer_pln_tree
from scpln.inference.tree._infer import observe
from scpln.inference.tree._log_sum_exp import tilted_log_sum_exp
from scpln.inference.tree._posteriors import TreePosteriors
from scpln.inference.tree._profile import TreeProfile
from scpln.module.covariances import Chain, Fixed, Full

EDGES = [("r", "a"), ("r", "b"), ("b", "c"), ("b", "d"), ("b", "e"), ("e", "f"), ("e", "g")]
LEAVES = ["g", "a", "d", "f", "c"]
P = 5
NODES, WEIGHTS = hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def contrasts_of(leaves=LEAVES):
    return TreeContrasts(Tree.from_edges(EDGES), leaves)


def simulated(n=60, seed=0, mean=2.0, leaves=LEAVES, d=1):
    """Counts of a covariance that is not a chain's."""
    random = np.random.default_rng(seed)
    root = 0.6 * random.standard_normal((P, P)) + 0.5 * np.eye(P)
    design = np.column_stack([np.ones(n), random.standard_normal((n, d - 1))])
    u = np.array([mean, mean, 0.5, -0.5, 0]) + random.standard_normal((n, P)) @ root.T
    offsets = 0.3 * random.standard_normal(n)
    counts = random.poisson(np.exp(offsets[:, None] + contrasts_of().log_rates(u)))
    order = [LEAVES.index(leaf) for leaf in leaves]
    return CountData(counts[:, order], offsets, design)


def draw_of_vectors(k=4, m=3, scale=1.0, seed=0):
    random = np.random.default_rng(seed)
    roots = scale * random.standard_normal((m, k, k))
    return random.standard_normal((m, k)), roots @ roots.transpose(0, 2, 1)


@pytest.mark.parametrize("scale", [0.3, 1, 3])
def test_bound_of_log_sum_exp_is_the_best_tilt_and_above_the_expectation(scale):
    mean, covariance = draw_of_vectors(scale=scale)
    found = tilted_log_sum_exp(mean, covariance, np.full((3, 4), 0.25))
    for i in range(3):

        def bound(a, m=mean[i], v=covariance[i]):
            return 0.5 * a @ v @ a + logsumexp(m + 0.5 * np.diag(v) - v @ a)

        best = minimize(bound, np.full(4, 0.25), tol=1e-12)
        assert found.value[i] == pytest.approx(best.fun, abs=1e-8)
        draws = np.random.default_rng(1).multivariate_normal(mean[i], covariance[i], 20_000)
        expected = logsumexp(draws, axis=1)
        error = 4 * expected.std() / np.sqrt(len(draws))
        assert expected.mean() - error < found.value[i] < logsumexp(mean[i] + 0.5 * np.diag(covariance[i]))
        spread = np.eye(4) - found.tilt[i]
        np.testing.assert_allclose(
            found.variance[i], np.einsum("kj,jl,kl->k", spread, covariance[i], spread), atol=1e-10
        )


def test_slopes_of_the_bound_of_log_sum_exp():
    """By means p, and by covariances half of Σ p (e − a)(e − a)ᵀ, which at the best tilt is half the Hessian."""
    mean, covariance = draw_of_vectors()
    start = np.full((3, 4), 0.25)
    found, step = tilted_log_sum_exp(mean, covariance, start), 1e-5
    np.testing.assert_allclose(found.tilt, found.shares, atol=1e-9)
    for k in range(4):
        up, down = (tilted_log_sum_exp(mean + side * step * np.eye(4)[k], covariance, start).value for side in (1, -1))
        np.testing.assert_allclose((up - down) / (2 * step), found.shares[:, k], atol=1e-8)
    change = draw_of_vectors(seed=5)[1]
    up, down = (tilted_log_sum_exp(mean, covariance + side * step * change, start).value for side in (1, -1))
    hessian = np.stack([np.diag(p) - np.outer(p, p) for p in found.shares])
    np.testing.assert_allclose((up - down) / (2 * step), 0.5 * np.einsum("mij,mij->m", hessian, change), atol=1e-6)


def dense_bound(contrasts, y, offset, prior_mean, prior, mean, root):
    """Minus the bound of one sample at any Gaussian, by plain formulas."""
    covariance, inverse = root @ root.T, np.linalg.inv(prior)
    top, nodes = len(contrasts.top), contrasts.node_counts(y[None])[0]
    value = nodes @ contrasts.matrix @ mean + nodes[contrasts.top - 1].sum() * offset
    value -= np.exp(offset + mean[:top] + 0.5 * np.diag(covariance)[:top]).sum()
    for group in contrasts.siblings:
        for parent, own, at in zip(group.parents, group.nodes, group.coordinates, strict=True):
            z, v = group.basis @ mean[at], group.basis @ covariance[np.ix_(at, at)] @ group.basis.T

            def tilted(a, z=z, v=v):
                return 0.5 * a @ v @ a + logsumexp(z + 0.5 * np.diag(v) - v @ a)

            value -= nodes[parent - 1] * minimize(tilted, np.full(len(own), 1 / len(own)), tol=1e-10).fun
    value += poisson.logpmf(y, 1).sum() + len(y)  # −Σ log y!
    residual = mean - prior_mean
    divergence = residual @ inverse @ residual + np.trace(inverse @ covariance) - len(y)
    divergence += np.linalg.slogdet(prior)[1] - np.linalg.slogdet(covariance)[1]
    return -(value - 0.5 * divergence)


def test_posteriors_are_the_optimum_over_all_gaussians():
    contrasts, data = contrasts_of(), simulated(1)
    root = np.random.default_rng(3).standard_normal((P, P))
    prior, coefficients = root @ root.T + 0.2 * np.eye(P), np.array([[1.5], [1.5], [0], [0], [0]])
    found = infer_pln_tree(data, contrasts, coefficients, Fixed(P, prior))
    low, random = np.tril_indices(P), np.random.default_rng(7)

    def loss(point):
        scale = np.zeros((P, P))
        scale[low] = point[P:]
        return dense_bound(contrasts, data.counts[0], data.offsets[0], coefficients[:, 0], prior, point[:P], scale)

    at = np.append(found.mean[0], np.linalg.cholesky(found.covariance[0])[low])
    best = loss(at)
    assert found.elbo[0] == pytest.approx(-best, abs=1e-6)
    for length in (0.01, 0.3):
        for step in length * random.standard_normal((10, len(at))):
            up, down = loss(at + step), loss(at - step)
            assert min(up, down) > best
            assert length > 0.1 or abs(up - down) < 0.1 * (up + down - 2 * best)  # no slope


@pytest.mark.parametrize(("total", "first"), [(40, 7), (3, 0), (1000, 400)])
def test_two_leaves_are_binomial_with_a_normal_logit(total, first):
    """Log p of a split by quadrature, which the bound is below and close to."""
    contrasts = TreeContrasts(Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c"), ("b", "d")]), ["a", "c", "d"])
    prior = np.diag([0.5, 0.5, 1.5])
    coefficients = np.array([[2.0], [np.log(total)], [0.3]])
    data = CountData(np.array([[5, first, total - first]]), np.zeros(1), np.ones((1, 1)))
    found = infer_pln_tree(data, contrasts, coefficients, Fixed(3, prior))
    grid = np.linspace(-9, 9, 20_001)
    mass = norm.pdf(grid) * (grid[1] - grid[0])
    logit = np.sqrt(2) * (0.3 + np.sqrt(1.5) * grid)
    exact = np.log(mass @ binom.pmf(first, total, 1 / (1 + np.exp(-logit))))
    for count, center in ((5, 2.0), (total, np.log(total))):
        exact += np.log(mass @ poisson.pmf(count, np.exp(center + np.sqrt(0.5) * grid)))
    assert exact - 0.05 < found.elbo[0] < exact


def test_with_one_level_it_is_the_model_without_a_tree():
    data = simulated(80, d=2)
    star = TreeContrasts(Tree.from_edges([("r", leaf) for leaf in LEAVES]), LEAVES)
    one = fit_pln_tree(data, star, shrinkage=0, tol=1e-7)
    other = fit_pln(data, Full(P), tol=1e-7)
    np.testing.assert_allclose(one.elbo.mean(), other.elbo.mean(), atol=1e-5)
    np.testing.assert_allclose(one.chain.dense, other.covariance.dense, atol=5e-3)
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=5e-3)
    same = infer_pln_tree(data, star, other.coefficients, other.covariance)
    np.testing.assert_allclose(same.elbo, other.elbo, atol=1e-6)
    np.testing.assert_allclose(same.mean, other.mean, atol=1e-4)


def profile_of(data, pool, shrinkage=5.0):
    contrasts, chain = contrasts_of(), Chain(contrasts_of().level_sizes)
    posteriors = TreePosteriors(observe(data, contrasts, chain), contrasts)
    random = np.random.default_rng(4)
    return TreeProfile(
        random.standard_normal((P, 2)), chain, posteriors, 0.1, pool, shrinkage, random.uniform(0.5, 2, P)
    )


def test_slopes_of_the_objective_are_those_of_finite_differences():
    with threads(1) as pool:
        profile = profile_of(simulated(5, d=2), pool)
        profile.covariance.update(np.cov(np.random.default_rng(5).standard_normal((9, P)).T))

        def at(point):
            profile.move(point)
            profile.settle(max_steps=200, tol=1e-14)
            return profile.objective

        point = profile.point
        expected = [(at(point + step) - at(point - step)) / 2e-4 for step in 1e-4 * np.eye(len(point))]
        at(point)
        np.testing.assert_allclose(profile.slope, expected, rtol=1e-4, atol=2e-4)


def test_the_objective_never_falls():
    result = fit_pln_tree(simulated(), contrasts_of(), tol=1e-6)
    assert result.converged
    assert np.diff(result.history["objective"]).min() > -1e-9
    again = infer_pln_tree(simulated(), contrasts_of(), result.coefficients, result.chain)
    np.testing.assert_allclose(again.elbo, result.elbo, atol=1e-8)
    np.testing.assert_allclose(again.covariance, result.covariance, atol=1e-5)


def test_columns_and_siblings_may_come_in_any_order():
    one = fit_pln_tree(simulated(d=2), contrasts_of(), tol=1e-7)
    order = ["c", "d", "a", "f", "g"]
    edges = [EDGES[i] for i in (1, 0, 4, 3, 2, 6, 5)]
    contrasts = TreeContrasts(Tree.from_edges(edges), order)
    other = fit_pln_tree(simulated(d=2, leaves=order), contrasts, tol=1e-7)
    np.testing.assert_allclose(other.elbo, one.elbo, atol=2e-3)
    np.testing.assert_allclose(other.elbo.sum(), one.elbo.sum(), atol=5e-3)
    at = [contrasts.tree.position(name) - 1 for name in contrasts_of().tree.names[1:]]
    covariances = [c.matrix @ r.chain.dense @ c.matrix.T for c, r in ((contrasts_of(), one), (contrasts, other))]
    np.testing.assert_allclose(covariances[1][np.ix_(at, at)], covariances[0], atol=5e-3)


def test_parameters_are_found():
    result = fit_pln_tree(simulated(600, mean=6), contrasts_of(), shrinkage=0)
    root = 0.6 * np.random.default_rng(0).standard_normal((P, P)) + 0.5 * np.eye(P)
    truth = Chain(contrasts_of().level_sizes)
    truth.update(root @ root.T)
    np.testing.assert_allclose(result.coefficients[:, 0], [6, 6, 0.5, -0.5, 0], atol=0.15)
    assert np.linalg.norm(result.chain.dense - truth.dense) < 0.15 * np.linalg.norm(truth.dense)


def test_shrinkage_helps_where_samples_are_few():
    few, many = simulated(8, seed=1), simulated(100, seed=2)
    held_out = []
    for shrinkage in (0.01, 5):
        found = fit_pln_tree(few, contrasts_of(), shrinkage=shrinkage)
        held_out.append(infer_pln_tree(many, contrasts_of(), found.coefficients, found.chain).elbo.mean())
    assert held_out[1] > held_out[0] + 1


def test_empty_nodes_and_samples_say_what_the_prior_says():
    contrasts = contrasts_of()
    data = CountData(np.array([[0, 9, 0, 0, 0], [0, 0, 0, 0, 0], [10**6, 1, 0, 3, 0]]), np.zeros(3), np.ones((3, 1)))
    prior = np.diag([1.0, 1, 2, 2, 2])
    found = infer_pln_tree(data, contrasts, np.zeros((P, 1)), Fixed(P, prior))
    assert np.isfinite(found.elbo).all()
    assert not len(found.stuck)
    np.testing.assert_allclose(found.covariance[0][2:, 2:], 2 * np.eye(3), rtol=1e-5)  # nothing below b is seen
    exact = sum(np.log(WEIGHTS @ np.exp(-np.exp(NODES))) for _ in range(2))
    assert exact - 0.1 < found.elbo[1] < exact


def test_importance_weights_of_posteriors_lead_to_the_exact_log_likelihood():
    """Bound ≤ exact, by draws around the posterior against quadrature."""
    contrasts = TreeContrasts(Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c"), ("b", "d")]), ["a", "c", "d"])
    root = np.array([[0.8, 0, 0], [0.3, 0.6, 0], [-0.4, 0.5, 0.9]])
    data = CountData(np.array([[4, 2, 5]]), np.zeros(1), np.ones((1, 1)))
    coefficients = np.array([[1.0], [1.5], [0.2]])
    found = infer_pln_tree(data, contrasts, coefficients, Fixed(3, root @ root.T))
    nodes, weights = hermegauss(40)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), -1).reshape(-1, 3)
    mass = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * 3, indexing="ij"), -1).reshape(-1, 3), 1)
    u = coefficients[:, 0] + grid @ root.T
    exact = logsumexp(poisson.logpmf(data.counts, np.exp(contrasts.log_rates(u))).sum(1), b=mass)
    posterior = multivariate_normal(found.mean[0], found.covariance[0])
    draws = posterior.rvs(20_000, random_state=0)
    weights = poisson.logpmf(data.counts, np.exp(contrasts.log_rates(draws))).sum(1) - posterior.logpdf(draws)
    weights += multivariate_normal(coefficients[:, 0], root @ root.T).logpdf(draws)
    assert logsumexp(weights) - np.log(len(draws)) == pytest.approx(exact, abs=5e-3)
    assert exact - 0.1 < found.elbo[0] < weights.mean() < exact


def test_what_is_not_on_the_tree_is_refused():
    data, contrasts = simulated(4), contrasts_of()
    with pytest.raises(ValueError, match="4 columns, but the tree has 5 leaves"):
        fit_pln_tree(CountData(data.counts[:, :4], data.offsets, data.design), contrasts)
    entries = Entries(observed=np.ones((4, P), bool))
    with pytest.raises(ValueError, match="one offset of each sample"):
        fit_pln_tree(CountData(data.counts, data.offsets, data.design, entries=entries), contrasts)
    with pytest.raises(ValueError, match="shrinkage=-1"):
        fit_pln_tree(data, contrasts, shrinkage=-1)
