"""The prior of what genes have: what it says, what it learns, and which dimensions it leaves."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import optimize, stats

from scpln.core import _linalg as linalg
from scpln.inference import CountData, elbo, fit, fit_likelihood, infer
from scpln.inference.newton._families import FullRank
from scpln.inference.newton._genes import GeneModel, GeneParameters
from scpln.inference.newton._states import CellStates
from scpln.inference.newton.prior import GenePrior, entropy, extended, reduced, relevant_axes
from scpln.module import make_likelihood

P, Q, D = 7, 3, 2


def some_prior(random, n_groups=2):
    root = random.normal(size=(n_groups, Q, Q))
    center, weight = random.normal(size=(n_groups, D)), random.gamma(2, size=(n_groups, D))
    weight[:, 0] = 0
    return GenePrior(center, weight, root @ root.transpose(0, 2, 1) + np.eye(Q), np.arange(P) % n_groups, learned=True)


def some_genes(random, *, uncertain=True):
    root = 0.3 * random.normal(size=(P, Q, Q)) + 0.2 * np.eye(Q)
    spread = linalg.pack((root @ root.transpose(0, 2, 1)).transpose(1, 2, 0)) if uncertain else None
    return GeneParameters(random.normal(size=(P, D)), random.normal(size=(P, Q)), spread)


def test_log_density_is_that_of_scipy():
    random = np.random.default_rng(0)
    prior, genes = some_prior(random), some_genes(random, uncertain=False)
    expected = [
        stats.norm.logpdf(genes.coefficients[j, 1], prior.center[g, 1], prior.weight[g, 1] ** -0.5)
        + stats.multivariate_normal.logpdf(genes.loadings[j], np.zeros(Q), np.linalg.inv(prior.precision[g]))
        for j, g in enumerate(prior.codes)
    ]
    np.testing.assert_allclose(prior.log_density(genes), expected)
    draws = 400_000  # of uncertain loadings, it is the mean over these
    uncertain = some_genes(np.random.default_rng(1))
    gene = 3
    covariance = linalg.unpack(uncertain.spread, Q)[:, :, gene]
    drawn = random.multivariate_normal(uncertain.loadings[gene], covariance, draws)
    one = stats.multivariate_normal(np.zeros(Q), np.linalg.inv(prior.precision[prior.codes[gene]]))
    alone = replace(uncertain, spread=None)
    change = one.logpdf(drawn).mean() - one.logpdf(uncertain.loadings[gene])
    assert prior.log_density(uncertain)[gene] - prior.log_density(alone)[gene] == pytest.approx(change, abs=0.05)


def test_entropy_is_that_of_scipy():
    genes = some_genes(np.random.default_rng(2))
    covariances = linalg.unpack(genes.spread, Q).transpose(2, 0, 1)
    expected = sum(stats.multivariate_normal(np.zeros(Q), each).entropy() for each in covariances)
    assert entropy(genes) == pytest.approx(expected)
    assert entropy(replace(genes, spread=None)) == 0


def test_gradient_and_curvature_are_those_of_the_log_density():
    random = np.random.default_rng(3)
    prior, genes = some_prior(random), some_genes(random, uncertain=False)
    model = GeneModel(np.zeros((P, D + Q)), np.zeros((D + Q, D + Q, P)), np.ones(P), D)
    found = prior.added_to(model, genes.stacked)
    for gene in (0, 3):

        def density(x, gene=gene):
            stacked = genes.stacked
            stacked[gene] = x
            return prior.log_density(GeneParameters.unstacked(stacked, D))[gene]

        slope = optimize.approx_fprime(genes.stacked[gene], density, 1e-6)
        np.testing.assert_allclose(found.gradient[gene], slope, atol=1e-4)
        step = random.normal(size=D + Q)
        second = (
            density(genes.stacked[gene] + step) + density(genes.stacked[gene] - step) - 2 * density(genes.stacked[gene])
        )
        assert -step @ found.curvature[:, :, gene] @ step == pytest.approx(second)
    steps = random.normal(size=(P, D + Q))
    np.testing.assert_allclose(
        prior.squares(steps), np.einsum("pk,klp,pl->p", steps, found.curvature, steps), rtol=1e-10
    )


def test_other_coordinates_are_the_same_prior():
    """Log-densities change by the determinant of the map, and of its inverse for the entropy: together not at all."""
    random = np.random.default_rng(4)
    prior, genes = some_prior(random), some_genes(random)
    scale = random.normal(size=(Q, Q)) + 2 * np.eye(Q)
    spread = genes.spread @ linalg.congruence(scale.T)
    moved = GeneParameters(genes.coefficients, genes.loadings @ scale, spread)
    before = prior.total_log_density(genes) + entropy(genes)
    assert prior.moved(scale).total_log_density(moved) + entropy(moved) == pytest.approx(before)


def test_variances_are_learned():
    """From loadings with known errors, and slowly where dimensions are empty, they come to the truth."""
    random = np.random.default_rng(5)
    p, truth = 20_000, np.diag([1.0, 0.04])
    errors = random.gamma(2, 0.05, p)
    ideal = random.multivariate_normal(np.zeros(2), truth, p)
    estimates = ideal + random.normal(size=(p, 2)) * errors[:, None] ** 0.5
    prior = GenePrior(np.zeros((1, 1)), np.zeros((1, 1)), 10 * np.eye(2)[None], np.zeros(p, np.intp), learned=True)
    for _ in range(100):
        covariance = np.linalg.inv(np.eye(2) / errors[:, None, None] + prior.precision)
        mean = np.einsum("pab,pb->pa", covariance, estimates / errors[:, None])
        genes = GeneParameters(np.zeros((p, 1)), mean, linalg.pack(covariance.transpose(1, 2, 0)))
        prior = prior.learn(genes, GeneModel(np.zeros((p, 3)), np.ones((3, 3, p)), np.ones(p), 1))
    np.testing.assert_allclose(prior.covariance[0], truth, atol=0.03)


def test_dimensions_are_left_out_and_put_back():
    random = np.random.default_rng(6)
    axes = np.linalg.qr(random.normal(size=(Q, Q)))[0]
    precision = axes @ np.diag([1.0, 2.0, 1e7]) @ axes.T
    prior = GenePrior(np.zeros((1, 1)), np.zeros((1, 1)), precision[None], np.zeros(P, np.intp), learned=True)
    family = FullRank(Q)
    kept = relevant_axes(prior, family, 100.0)
    assert kept.shape == (Q, Q - 1)
    np.testing.assert_allclose(kept.T @ axes[:, 2], 0, atol=1e-6)
    cells = CellStates.at(random.normal(size=(5, Q)), family, 0.5, np.float64)
    genes = some_genes(random)
    less, fewer, smaller, _ = reduced(cells, genes, prior, family, kept)
    np.testing.assert_allclose(np.linalg.eigvalsh(smaller.covariance[0]), [0.5, 1.0], rtol=1e-4)
    back, whole, _ = extended(less, fewer, smaller, FullRank(Q - 1), Q)
    np.testing.assert_allclose(back.mean[:, :2], cells.mean @ kept)
    np.testing.assert_allclose(linalg.unpack(back.variance, Q)[2, 2], 1)
    assert not whole.loadings[:, 2].any()
    assert relevant_axes(replace(prior, learned=False), family, 100.0) is None


def counts_of(n, p, q, seed=0, depth=1.0):
    random = np.random.default_rng(seed)
    loadings, intercepts = 0.5 * random.normal(size=(p, q)), random.normal(size=(p, 1)) - 0.5 + np.log(depth)
    counts = random.poisson(np.exp(intercepts[:, 0] + random.normal(size=(n, q)) @ loadings.T))
    return CountData(sp.csr_matrix(counts), np.zeros(n), np.ones((n, 1)))


@pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
def test_no_dimension_is_kept_that_explains_nothing(posterior):
    data = counts_of(300, 150, 2)
    whole, right = (fit(data, q, prior="learned", posterior=posterior, n_threads=1) for q in (6, 2))
    assert whole.converged
    assert (whole.n_kept, right.n_kept) == (2, 2)
    assert not whole.loadings[:, 2:].any()
    assert not whole.mean[:, 2:].any()
    assert whole.elbo.mean() == pytest.approx(right.elbo.mean(), abs=2e-3)
    most = fit(data, 6, posterior=posterior, n_threads=1)
    assert (most.n_kept, most.spread) == (6, None)
    assert most.elbo.mean() > whole.elbo.mean()
    # What is reported is the bound of the counts at C, what is maximised also has the prior and the uncertainty of C.
    b, c, m, v = whole.coefficients, whole.loadings, whole.mean, whole.covariance
    np.testing.assert_allclose(whole.elbo, elbo(data, b, c, m, v))
    assert whole.history["objective"][-1] < whole.history["elbo"][-1] < whole.elbo.mean()
    assert most.history["objective"] == most.history["elbo"]


@pytest.mark.parametrize("likelihood", ["poisson", "nb"])
def test_held_out_bounds_rise(likelihood):
    """Of cells that were not looked at, where genes are many and rare."""
    whole = counts_of(240, 150, 3, seed=1, depth=0.3)
    train, rest = whole.subset(np.arange(120)), whole.subset(np.arange(120, 240))
    bounds = {}
    for prior in ("none", "learned"):
        result = fit(train, 8, prior=prior, n_threads=1)
        if likelihood == "nb":
            own = make_likelihood("nb", 150)
            result = fit_likelihood(train, result, own, prior=prior, n_threads=1, max_iter=60)
        b, c = result.coefficients, result.loadings
        bounds[prior] = elbo(rest, b, c, *infer(rest, b, c, n_threads=1)).mean()
    assert bounds["learned"] > bounds["none"] + 0.5


def test_the_objective_hardly_ever_falls():
    """But while dimensions vanish, when variances run ahead of the loadings' covariances."""
    history = fit(counts_of(200, 80, 3), 5, prior="learned", n_threads=1).history["objective"]
    changes = np.diff(history)
    assert changes.min() > -0.5
    assert changes[-8:].min() > -1e-3
    assert history[-1] > max(history) - 1e-3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_fit_runs_away(seed):
    """Few cells, many rare genes and more dimensions than there are: variances once grew to 10⁵ there."""
    result = fit(counts_of(120, 150, 3, seed=seed, depth=0.3), 8, prior="learned", n_threads=1)
    assert result.converged
    assert result.n_kept == 3
    assert np.abs(result.loadings).max() < 3


def test_totals_of_genes_are_those_of_the_counts():
    """To first order: intercepts make up for loadings that count as known at the end."""
    data = counts_of(200, 80, 3, depth=0.2)
    result = fit(data, 3, prior="learned", n_threads=1)
    rates = linalg.unpack(result.covariance.astype(float), 3)
    log_rates = result.coefficients[:, 0] + result.mean @ result.loadings.T
    log_rates += 0.5 * np.einsum("abn,pa,pb->np", rates, result.loadings, result.loadings)
    expected, found = np.exp(log_rates).sum(0), np.asarray(data.counts.sum(0)).ravel()
    np.testing.assert_allclose(expected[found > 20], found[found > 20], rtol=0.08)
