"""Estimators in gene space beyond the variational one, against quadrature, finite differences and autograd."""

import copy
import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from scipy.special import gammaln, logsumexp

from scpln.core import threads
from scpln.inference import CountData, Entries, fit
from scpln.inference.estimators import (
    count_moments,
    fit_importance,
    fit_nuts,
    fit_quadrature,
    fit_score_function,
    infer_score_function,
    refine_pca,
    score_gradient,
)
from scpln.inference.estimators._importance import Rounds, Search
from scpln.inference.estimators._proposals import draw_points, importance_bounds
from scpln.inference.estimators._quadrature import grid
from scpln.inference.genespace import fit_pln
from scpln.inference.genespace._observations import Observations
from scpln.inference.newton._convergence import History
from scpln.module.covariances import Basis, Diagonal, Fixed, Full, Kernel, Spherical

SIGMA = np.array([[1.0, 0.8], [0.8, 1.0]])


def draw(n, sigma, *, level=0.0, d=1, seed=0):
    random = np.random.default_rng(seed)
    p = len(sigma)
    design = np.column_stack([np.ones(n), random.standard_normal((n, d - 1))])
    coefficients = np.column_stack([np.full(p, level), np.full((p, d - 1), 0.4)])
    offsets = 0.3 * random.standard_normal(n)
    log_rates = design @ coefficients.T + random.multivariate_normal(np.zeros(p), sigma, size=n)
    return CountData(random.poisson(np.exp(offsets[:, None] + log_rates)), offsets, design)


def poisson(eta, y):
    return y * eta - eta.exp() - torch.lgamma(y + 1)


def log_integral(eta, y, sd):
    """By scipy, in pieces around the mode."""

    def log_joint(t):
        return y * (eta + sd * t) - np.exp(np.minimum(eta + sd * t, 300)) - t**2 / 2 - 0.5 * np.log(2 * np.pi)

    mode = scipy.optimize.minimize_scalar(
        lambda t: -log_joint(t), bracket=(-1, 1), options={"xtol": 1e-12}, method="brent"
    ).x
    width = 1 / np.sqrt(1 + sd**2 * np.exp(eta + sd * mode))
    edges = mode + width * np.array([-20, -12, -6, -3, 0, 3, 6, 12])
    top = log_joint(mode)
    parts = [
        scipy.integrate.quad(lambda t: np.exp(log_joint(t) - top), a, b, epsabs=1e-13, epsrel=1e-12)[0]
        for a, b in itertools.pairwise(edges)
    ]
    return top + np.log(sum(parts))


@pytest.mark.parametrize("sd", [0.05, 0.5, 1.0, 2.0])
def test_integrals_are_those_of_scipy(sd):
    pairs = [(eta, y) for eta in (-6.0, -1.0, 2.0, 9.0) for y in (0.0, 1.0, 30.0, 1e5)]
    eta, y = np.array(pairs).T
    expected = np.array([log_integral(*pair, sd) for pair in pairs])
    found = count_moments(eta, y, np.array([sd])).value
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-12)


def test_slopes_are_those_of_finite_differences():
    eta, y, sd = np.array([0.3, -1.0, 2.0, 9.0]), np.array([2.0, 0.0, 30.0, 1e4]), np.array([0.7, 1.5, 2.0, 0.4])
    moments, h = count_moments(eta, y, sd), 1e-3

    def value(a, b):
        return count_moments(eta + a * h, y, sd + b * h).value

    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(moments.by_eta, (value(1, 0) - value(-1, 0)) / (2 * h), **close)
    np.testing.assert_allclose(moments.by_sd, (value(0, 1) - value(0, -1)) / (2 * h), **close)
    np.testing.assert_allclose(moments.by_eta_eta, (value(1, 0) - 2 * value(0, 0) + value(-1, 0)) / h**2, **close)
    np.testing.assert_allclose(moments.by_sd_sd, (value(0, 1) - 2 * value(0, 0) + value(0, -1)) / h**2, **close)
    cross = (value(1, 1) - value(1, -1) - value(-1, 1) + value(-1, -1)) / (4 * h**2)
    np.testing.assert_allclose(moments.by_eta_sd, cross, **close)


class TestQuadrature:
    def test_it_is_where_a_general_optimiser_ends(self):
        data = draw(200, np.eye(1), d=2)
        result = fit_quadrature(data, Diagonal(1), tol=1e-9)

        def loss(theta):
            eta = data.offsets[:, None] + data.design @ theta[:2, None]
            lost = count_moments(eta, data.counts, np.exp(theta[2:])).value - gammaln(data.counts + 1)
            return -lost.sum() + 0.5 * 1e-2 * theta[1] ** 2

        best = scipy.optimize.minimize(loss, [0.1, 0.1, -0.5], method="BFGS", options={"gtol": 1e-6})
        assert result.converged
        assert result.history["objective"][-1] * 200 == pytest.approx(-best.fun, abs=1e-6)
        np.testing.assert_allclose(result.coefficients[0], best.x[:2], atol=1e-5)
        assert np.sqrt(result.covariance.dense[0, 0]) == pytest.approx(np.exp(best.x[2]), rel=1e-5)

    def test_genes_are_fitted_apart(self):
        data = draw(150, np.eye(3), d=2)
        together = fit_quadrature(data, Diagonal(3), tol=1e-9)
        alone = [fit_quadrature(replace(data, counts=data.counts[:, [j]]), Diagonal(1), tol=1e-9) for j in range(3)]
        np.testing.assert_allclose(together.elbo, sum(each.elbo for each in alone), rtol=1e-9)
        np.testing.assert_allclose(together.coefficients, np.vstack([each.coefficients for each in alone]), atol=1e-6)

    def test_one_variance_is_that_of_one_gene_and_its_slope_vanishes(self):
        one = draw(150, np.eye(1), d=2)
        a, b = fit_quadrature(one, Diagonal(1), tol=1e-9), fit_quadrature(one, Spherical(1), tol=1e-9)
        np.testing.assert_allclose(a.elbo, b.elbo, rtol=1e-7)
        data = draw(150, np.diag([0.3, 1.0, 1.5]), d=2)
        result = fit_quadrature(data, Spherical(3), tol=1e-9)
        eta, sd = data.offsets[:, None] + data.design @ result.coefficients.T, np.sqrt(result.covariance.dense[0, 0])
        assert count_moments(eta, data.counts, np.array([sd])).by_sd.sum() == pytest.approx(0, abs=1e-3)
        assert fit_quadrature(data, Diagonal(3)).elbo.sum() > result.elbo.sum()

    def test_a_grid_of_two_independent_genes_is_each_of_them(self):
        data = draw(100, np.eye(2))
        apart = fit_quadrature(data, Diagonal(2), tol=1e-8)
        cells = fit_pln(data, Diagonal(2))
        points = grid(Observations.of(data), apart.coefficients, apart.covariance, cells)
        with threads(1) as pool:
            points.settle(apart.coefficients, apart.covariance, pool)
        np.testing.assert_allclose(points.bound, apart.elbo, atol=1e-6)

    def test_it_does_not_depend_on_order_or_unit(self):
        data = draw(120, np.eye(3), d=2)
        result = fit_quadrature(data, Diagonal(3), prior_precision=0, tol=1e-9)
        cells, genes = np.random.default_rng(0).permutation(120), np.array([2, 0, 1])
        design = data.design[cells] * [1, 1000.0]
        other = fit_quadrature(
            CountData(data.counts[cells][:, genes], data.offsets[cells], design),
            Diagonal(3),
            prior_precision=0,
            tol=1e-9,
        )
        np.testing.assert_allclose(other.coefficients * [1, 1000.0], result.coefficients[genes], atol=1e-6)
        np.testing.assert_allclose(other.elbo, result.elbo[cells], rtol=1e-8)

    def test_what_was_not_observed_has_no_part(self):
        data = draw(150, np.eye(2))
        observed = np.random.default_rng(1).random(data.counts.shape) < 0.7
        some = replace(data, entries=Entries(observed=observed))
        hidden = replace(some, counts=np.where(observed, data.counts, 99))
        a, b = fit_quadrature(some, Diagonal(2)), fit_quadrature(hidden, Diagonal(2))
        np.testing.assert_allclose(a.elbo, b.elbo)
        alone = replace(
            data,
            counts=data.counts[observed[:, 0]][:, [0]],
            offsets=data.offsets[observed[:, 0]],
            design=data.design[observed[:, 0]],
        )
        assert a.coefficients[0] == pytest.approx(fit_quadrature(alone, Diagonal(1)).coefficients[0], abs=1e-4)

    def test_it_recovers_standard_deviations_where_most_counts_are_zero(self):
        """Mean-field, and full rank, which is the same here, are 7 to 14 % low."""
        random = np.random.default_rng(3)
        levels = np.array([-1.1, -2.5])
        counts = random.poisson(np.exp(levels + random.standard_normal((30_000, 2))))
        data = CountData(counts, np.zeros(30_000), np.ones((30_000, 1)))
        assert (counts == 0).mean(0) == pytest.approx([0.65, 0.88], abs=0.02)
        exact = np.sqrt(np.diagonal(fit_quadrature(data, Diagonal(2)).covariance.dense))
        variational = np.sqrt(np.diagonal(fit_pln(data, Diagonal(2), posterior="meanfield").covariance.dense))
        assert exact == pytest.approx([1, 1], rel=0.03)
        assert (variational < 0.95).all()

    def test_genes_without_counts_and_without_variance_are_kept(self):
        random = np.random.default_rng(0)
        counts = np.column_stack([np.zeros(80), np.full(80, 5), random.poisson(3, 80)]).astype(int)
        result = fit_quadrature(CountData(counts, np.zeros(80), np.ones((80, 1))), Diagonal(3))
        assert result.converged
        assert np.isfinite(result.elbo).all()
        assert result.covariance.dense[1, 1] < 1e-3

    def test_it_refuses_many_dependent_genes(self):
        with pytest.raises(ValueError, match="inference='quadrature' is for"):
            fit_quadrature(draw(20, np.eye(3)), Full(3))


class TestImportance:
    @pytest.fixture(scope="class")
    @classmethod
    def known(cls):
        data = draw(150, SIGMA)
        return data, fit_pln(data, Full(2)), fit_quadrature(data, Full(2))

    def test_bounds_are_in_order(self, known):
        """Bound ≤ importance-weighted ≤ log-likelihood at the same B and Σ: the second on average over draws."""
        data, variational, _ = known
        where = variational.coefficients, variational.covariance, variational
        points = grid(Observations.of(data), *where)
        with threads(1) as pool:
            points.settle(variational.coefficients, variational.covariance, pool)
            few = [
                importance_bounds(Observations.of(data), *where, pool, n_samples=5, seed=s)[0].mean() for s in range(20)
            ]
            many, ess = importance_bounds(Observations.of(data), *where, pool, n_samples=20_000, seed=1)
        exact = points.bound
        assert variational.elbo.mean() < np.mean(few) < exact.mean()
        np.testing.assert_allclose(many, exact, atol=0.02)
        assert many.mean() == pytest.approx(exact.mean(), abs=1e-3)
        assert ess.min() > 0.5

    def test_estimates_are_those_of_quadrature(self, known):
        data, variational, exact = known
        found = [fit_importance(data, Full(2), start=variational, seed=seed) for seed in range(3)]
        assert all(each.converged for each in found)
        for each in found:
            np.testing.assert_allclose(each.covariance.dense, exact.covariance.dense, atol=0.06)
            np.testing.assert_allclose(each.coefficients, exact.coefficients, atol=0.04)
            assert each.elbo.mean() == pytest.approx(exact.elbo.mean(), abs=0.003)
        assert exact.elbo.mean() > variational.elbo.mean() + 0.005

    @pytest.mark.parametrize(
        "family", [Full(2), Diagonal(2), Spherical(2), Kernel(2, SIGMA), Basis(2, np.array([[0.6], [0.8]]))]
    )
    def test_slopes_are_those_of_finite_differences(self, known, family):
        data = known[0]
        start = fit_pln(data, family)
        observations = Observations.of(data)
        with threads(1) as pool:
            points = draw_points(observations, start.coefficients, start.covariance, start, pool, n_samples=30, seed=0)
            points.least_ess = 0.0
            search = Search(data, start.coefficients, copy.deepcopy(start.covariance), History())
            profile = Rounds(search, observations, pool, 1e-2, 10, 1e-5, None).profile(points)
            point = profile.point * 1.01
            profile.move(point)
            profile.settle(max_steps=0, tol=0)
            slope, numerical = profile.slope, np.empty(len(point))
            for k in range(len(point)):
                values = []
                for sign in (1, -1):
                    profile.move(point + sign * 1e-5 * np.eye(len(point))[k])
                    profile.settle(max_steps=0, tol=0)
                    values.append(profile.objective)
                numerical[k] = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(slope, numerical, rtol=1e-4, atol=1e-3 * max(1, np.abs(numerical).max()))

    def test_a_seed_gives_the_same_and_a_closed_step_does_not_lower_the_bound(self, known):
        data, start, _ = known
        a, b = (fit_importance(data, Full(2), start=start, n_samples=50, seed=4) for _ in range(2))
        assert np.array_equal(a.elbo, b.elbo)
        observations = Observations.of(data)
        with threads(1) as pool:
            points = draw_points(observations, start.coefficients, start.covariance, start, pool, n_samples=100, seed=0)
            search = Search(data, start.coefficients, copy.deepcopy(start.covariance), History())
            profile = Rounds(search, observations, pool, 0.0, 10, 1e-5, None).profile(points)
            values = []
            for _ in range(6):
                profile.settle(max_steps=0, tol=0)
                values.append(profile.objective)
                profile.maximize_given_posteriors()
        assert (np.diff(values) > 0).all()

    def test_what_was_not_observed_has_no_part(self, known):
        data = known[0]
        observed = np.random.default_rng(1).random(data.counts.shape) < 0.7
        some = replace(data, entries=Entries(observed=observed))
        hidden = replace(some, counts=np.where(observed, data.counts, 99))
        a, b = (fit_importance(each, Full(2), n_samples=50) for each in (some, hidden))
        np.testing.assert_allclose(a.elbo, b.elbo)

    def test_an_interrupt_keeps_what_was_reached(self, known):
        def stop(iteration, _value):
            if iteration == 3:
                raise KeyboardInterrupt

        result = fit_importance(known[0], Full(2), start=known[1], on_iteration=stop)
        assert result.interrupted
        assert not result.converged
        assert np.isfinite(result.elbo).all()
        assert len(result.history["elbo"]) >= 3

    def test_draws_are_two_or_more(self, known):
        with pytest.raises(ValueError, match="n_samples=1"):
            fit_importance(known[0], Full(2), n_samples=1)


class TestNUTS:
    def test_estimates_are_those_of_quadrature(self):
        data = draw(50, SIGMA, level=0.5)
        exact = fit_quadrature(data, Full(2))
        found = fit_nuts(data, Full(2), n_samples=100, seed=2)
        assert found.converged
        assert "Monte-Carlo error" in found.reason
        np.testing.assert_allclose(found.covariance.dense, exact.covariance.dense, atol=0.15)
        np.testing.assert_allclose(found.coefficients, exact.coefficients, atol=0.1)
        assert found.elbo.mean() == pytest.approx(exact.elbo.mean(), abs=0.01)
        assert found.summary["r_hat"] < 1.1
        assert found.summary["ess"] > 0

    def test_sizes_are_refused(self):
        data = draw(20, SIGMA)
        with pytest.raises(ValueError, match="needs 100 draws"):
            fit_nuts(data, Full(2), n_samples=50)
        with pytest.raises(ValueError, match="up to 50 genes"):
            fit_nuts(draw(20, np.eye(51)), Full(51))


class TestScoreFunction:
    def test_the_gradient_is_that_of_autograd_on_average_and_the_control_variate_takes_variance_away(self):
        random = np.random.default_rng(0)
        counts, mean = np.array([[3.0, 0.0, 40.0]]), np.array([[0.5, -0.5, 3.0]])
        variance = np.array([[0.4, 0.8, 0.05]])
        mu, v = (torch.tensor(each, requires_grad=True) for each in (mean, variance))
        expected = (torch.from_numpy(counts) * mu - (mu + v / 2).exp()).sum()
        by_mean, by_variance = torch.autograd.grad(expected, [mu, v])
        repeats = {True: [], False: []}
        for control in repeats:
            for _ in range(3000):
                noise = random.standard_normal((16, 1, 3))
                found = score_gradient(poisson, counts, mean, variance, noise, control_variate=control)
                repeats[control].append(np.concatenate([found.slope[0], -0.5 * found.weight[0]]))
        truth = torch.cat([by_mean[0], by_variance[0]]).numpy()
        for values in (np.array(each) for each in repeats.values()):
            error = values.std(0) / np.sqrt(len(values))
            assert (np.abs(values.mean(0) - truth) < 4.5 * error).all()
        with_control, without = (np.var(repeats[control], axis=0) for control in (True, False))
        assert (with_control < without).all()
        assert (with_control[[0, 2, 3, 5]] < 0.5 * without[[0, 2, 3, 5]]).all()  # where counts are not zero

    @pytest.mark.parametrize("posterior", ["fullrank", "meanfield"])
    def test_of_poisson_counts_it_comes_to_the_closed_bound(self, posterior):
        data = draw(200, SIGMA, level=0.5)
        closed = fit_pln(data, Full(2), posterior=posterior)
        found = fit_score_function(data, Full(2), poisson, posterior=posterior, seed=1)
        assert found.elbo.mean() == pytest.approx(closed.elbo.mean(), abs=0.03)
        np.testing.assert_allclose(found.covariance.dense, closed.covariance.dense, atol=0.15)
        cells = infer_score_function(
            data, closed.coefficients, closed.covariance, poisson, posterior=posterior, n_samples=32
        )
        np.testing.assert_allclose(cells.mean, closed.mean, atol=0.25)
        assert cells.mean == pytest.approx(closed.mean, abs=0.25)
        assert np.abs(cells.mean - closed.mean).mean() < 0.04
        assert cells.elbo.mean() == pytest.approx(closed.elbo.mean(), abs=0.03)

    def test_a_density_without_derivatives_is_enough(self):
        data = draw(150, SIGMA, level=1.0)

        def stepwise(eta, y):
            """Poisson counts whose log-rate is rounded: its derivative is zero everywhere."""
            return poisson((eta * 20).round() / 20, y)

        found = fit_score_function(data, Full(2), stepwise, max_iter=300)
        closed = fit_pln(data, Full(2))
        assert found.elbo.mean() == pytest.approx(closed.elbo.mean(), abs=0.05)
        assert found.covariance.dense[0, 1] > 0.4

    def test_what_is_no_density_is_refused(self):
        data = draw(20, SIGMA)
        with pytest.raises(TypeError, match="no function"):
            fit_score_function(data, Full(2), "poisson")
        with pytest.raises(ValueError, match="of every entry"):
            fit_score_function(data, Full(2), lambda eta, y: poisson(eta, y).sum(-1))
        masked = replace(data, entries=Entries(observed=np.arange(40).reshape(20, 2) > 0))
        with pytest.raises(ValueError, match="not observed"):
            fit_score_function(masked, Full(2), poisson)


def test_a_fixed_covariance_stays():
    data = draw(100, SIGMA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit_importance(data, Fixed(2, SIGMA), n_samples=100)
    np.testing.assert_allclose(result.covariance.dense, SIGMA)


class TestLatentSpace:
    def test_it_comes_to_the_maximum_of_the_likelihood_by_quadrature(self):
        random = np.random.default_rng(0)
        b, c = random.normal(-1.5, 0.5, (8, 1)), random.normal(0, 1.2, (8, 1))
        counts = random.poisson(np.exp(b.T + random.standard_normal((400, 1)) @ c.T)).clip(max=300)
        data = CountData(counts, np.zeros(400), np.ones((400, 1)))
        start = fit(data, 1)
        refined = refine_pca(data, start.coefficients, start.loadings, seed=1)

        def log_likelihood(b, c):
            z = np.linspace(-6, 6, 3001)  # a cell with a count of 300 knows its state to 0.03
            eta = b[:, 0] + np.outer(z, c[:, 0])
            log_joint = counts @ eta.T - np.exp(eta).sum(1) - 0.5 * z**2
            return logsumexp(log_joint, axis=1).sum()

        first = np.concatenate([start.coefficients, start.loadings]).ravel()
        best = scipy.optimize.minimize(
            lambda both: -log_likelihood(both[:8, None], both[8:, None]), first, method="L-BFGS-B"
        )
        short = [-best.fun - log_likelihood(*each) for each in ((start.coefficients, start.loadings), refined)]
        assert short[0] > 0.2
        assert short[1] < 0.1 * short[0]

    def test_it_is_for_offsets_of_cells(self):
        data = draw(20, SIGMA)
        b, c = np.zeros((2, 1)), np.ones((2, 1))
        with pytest.raises(ValueError, match="offsets of cells"):
            refine_pca(replace(data, entries=Entries(np.zeros((20, 2)))), b, c)
        with pytest.raises(ValueError, match="n_iterations=1"):
            refine_pca(data, b, c, n_iterations=1)
