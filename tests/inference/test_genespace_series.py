"""Series in gene space: against dense matrices, quadrature, differences, and simulations."""

import copy

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm, poisson

from scpln.core import Threads
from scpln.inference import CountData, Entries
from scpln.inference.genespace import fit_pln, infer_pln
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace.series import Order, Process, fit_pln_series, infer_pln_series
from scpln.inference.genespace.series._posteriors import SeriesStates
from scpln.inference.genespace.series._profile import SeriesProfile
from scpln.inference.genespace.series._smoother import Smoother
from scpln.inference.genespace.terms import terms_of
from scpln.module import make_likelihood
from scpln.module.covariances import Diagonal, Fixed, Full, Spherical

P = 3
PHI = {"scalar": [0.6], "diagonal": [0.6, -0.4, 0.9]}


def process_of(kind="scalar", family=None, phi=None):
    """A process with some covariance."""
    if family is None:
        root = np.random.default_rng(1).standard_normal((P, P))
        family = Full(P)
        family.update(root @ root.T + 0.3 * np.eye(P))
    process = Process(family, kind)
    process.set_phi(np.array(PHI[kind] if phi is None else phi))
    return process


def data_of(n=12, seed=0, observed=None, d=2):
    """Counts of series of several lengths, with gaps, in no order."""
    random = np.random.default_rng(seed)
    groups, times = random.integers(0, 3, n), 2 * random.permutation(n)
    design = np.column_stack([np.ones(n), random.standard_normal((n, d - 1))])
    counts = random.poisson(3, (n, P))
    entries = None if observed is None else Entries(observed=observed)
    return CountData(counts, 0.2 * random.standard_normal(n), design, entries=entries), groups, times


def simulated(n_series, length, phi, seed=0, p=P, mean=2.0):
    """Counts, order, and the stationary covariance."""
    random = np.random.default_rng(seed)
    root = 0.5 * random.standard_normal((p, p)) + 0.5 * np.eye(p)
    innovation, phi = root @ root.T, np.broadcast_to(phi, p)
    stationary = innovation / (1 - np.outer(phi, phi))
    states = np.empty((n_series, length, p))
    states[:, 0] = random.multivariate_normal(np.zeros(p), stationary, n_series)
    for t in range(1, length):
        states[:, t] = phi * states[:, t - 1] + random.standard_normal((n_series, p)) @ root.T
    counts = random.poisson(np.exp(mean + states.reshape(-1, p)))
    order = Order.of(np.repeat(np.arange(n_series), length), np.tile(np.arange(length), n_series))
    return CountData(counts, np.zeros(len(counts)), np.ones((len(counts), 1))), order, stationary


def dense(process, groups, times, unit):
    """Prior covariance of all samples and genes, (n p, n p)."""
    phi, stationary, n = process.phi, process.stationary, len(groups)
    result = np.zeros((n, P, n, P))
    for i in range(n):
        for j in np.flatnonzero(groups == groups[i]):
            lag = (times[i] - times[j]) / unit
            power = np.diag(phi ** abs(lag))
            result[i, :, j] = power @ stationary if lag >= 0 else stationary @ power
    return result.reshape(n * P, n * P)


@pytest.mark.parametrize("kind", PHI)
def test_smoother_gives_what_dense_matrices_give(kind):
    _, groups, times = data_of()
    order, process = Order.of(groups, times), process_of(kind)
    assert order.unit == 2
    random = np.random.default_rng(2)
    weight, vectors = random.uniform(0.1, 5, (12, P)), random.standard_normal((12, P))
    smoother = Smoother(process, order, np.arange(order.n_series), weight)
    prior, a = dense(process, groups, times, order.unit), weight.ravel()
    covariance = np.linalg.inv(np.linalg.inv(prior) + np.diag(a)).reshape(12, P, 12, P)
    np.testing.assert_allclose(smoother.prior(vectors).ravel(), prior @ vectors.ravel(), atol=1e-12)
    solved = np.linalg.solve(prior + np.diag(1 / a), vectors.ravel())
    np.testing.assert_allclose(smoother.solve(vectors).ravel(), solved, atol=1e-12)
    own = np.stack([covariance[i, :, i] for i in range(12)])
    np.testing.assert_allclose(smoother.covariance(), own, atol=1e-12)
    np.testing.assert_allclose(smoother.variance(), np.einsum("ijj->ij", own), atol=1e-12)
    root = np.sqrt(a)
    assert smoother.log_det.sum() == pytest.approx(np.linalg.slogdet(np.eye(36) + root[:, None] * prior * root)[1])


def dense_optimum(prior, counts, offsets, prior_mean):
    """Mean, covariance and bound of the best Gaussian of all samples and genes, by damped steps from the prior's mean."""
    y, o, inverse = counts.ravel(), np.repeat(offsets, P), np.linalg.inv(prior)
    mean, variance = np.log(y + 1) - o, np.zeros(len(y))
    for _ in range(500):
        rates = np.exp(o + mean + variance / 2)
        covariance = np.linalg.inv(inverse + np.diag(rates))
        mean = mean + 0.5 * covariance @ (y - rates - inverse @ (mean - prior_mean.ravel()))
        variance = 0.5 * (variance + np.diag(covariance))
    rates, residual = np.exp(o + mean + variance / 2), mean - prior_mean.ravel()
    counted = poisson.logpmf(y, np.exp(o + mean)).sum() + (np.exp(o + mean) - rates).sum()
    divergence = residual @ inverse @ residual + np.trace(inverse @ covariance) - len(y)
    divergence += np.linalg.slogdet(prior)[1] - np.linalg.slogdet(covariance)[1]
    return mean, covariance, counted - 0.5 * divergence


@pytest.mark.parametrize("kind", PHI)
def test_posteriors_are_the_optimum_of_a_dense_one(kind):
    data, groups, times = data_of()
    order, process = Order.of(groups, times), process_of(kind)
    coefficients = np.random.default_rng(3).standard_normal((P, 2)) * 0.3
    found = infer_pln_series(data, order, coefficients, process)
    prior = dense(process, groups, times, order.unit)
    mean, covariance, bound = dense_optimum(prior, data.counts, data.offsets, data.design @ coefficients.T)
    assert found.elbo.sum() == pytest.approx(bound, abs=1e-8)
    np.testing.assert_allclose(found.mean.ravel(), mean, atol=2e-6)
    own = np.stack([covariance.reshape(12, P, 12, P)[i, :, i] for i in range(12)])
    np.testing.assert_allclose(found.covariance, own, atol=2e-6)
    assert not len(found.stuck)


@pytest.mark.parametrize("name", ["poisson", "nb", "bernoulli"])
def test_without_autoregression_it_is_pln(name):
    data, groups, times = data_of()
    likelihood = make_likelihood(name, P)
    coefficients, process = np.full((P, 2), 0.3), process_of(phi=[0.0])
    series = infer_pln_series(data, Order.of(groups, times), coefficients, process, likelihood=likelihood)
    cells = infer_pln(data, coefficients, process.family, likelihood=likelihood)
    np.testing.assert_allclose(series.elbo, cells.elbo, atol=1e-8)
    np.testing.assert_allclose(series.mean, cells.mean, atol=1e-5)
    np.testing.assert_allclose(np.einsum("ijj->ij", series.covariance), cells.variance, atol=1e-5)


def test_bound_is_below_quadrature_and_close():
    counts, phi, sd = np.array([[3], [9]]), 0.7, 0.8
    data, order = CountData(counts, np.zeros(2), np.ones((2, 1))), Order.of([0, 0], [0, 1])
    process = Process(Fixed(1, np.array([[sd**2]])))
    process.set_phi(np.array([phi]))
    bound = infer_pln_series(data, order, np.array([[1.5]]), process).elbo.sum()
    z = np.linspace(-8 * sd, 8 * sd, 2001)
    joint = norm.logpdf(z, 0, sd)[:, None] + norm.logpdf(z[None], phi * z[:, None], sd * np.sqrt(1 - phi**2))
    joint += poisson.logpmf(3, np.exp(1.5 + z))[:, None] + poisson.logpmf(9, np.exp(1.5 + z))[None]
    exact = np.log(np.exp(joint).sum() * (z[1] - z[0]) ** 2)
    assert bound < exact < bound + 0.01


@pytest.mark.parametrize("kind", PHI)
@pytest.mark.parametrize("name", ["poisson", "nb"])
@pytest.mark.parametrize("family", [Full, Diagonal, Spherical])
def test_slopes_are_central_differences(kind, name, family):
    data, groups, times = data_of()
    order, likelihood = Order.of(groups, times), make_likelihood(name, P)
    covariance = family(P)
    covariance.update(process_of().family.dense)
    process, observations = process_of(kind, covariance), Observations.of(data)
    states = SeriesStates(observations, terms_of(observations, likelihood), order)
    profile = SeriesProfile(np.full((P, 2), 0.3), process, states, 1e-2, Threads(1))

    def settle(point):
        profile.move(point)
        profile.settle(max_steps=200, tol=1e-14)
        return profile.objective

    start = profile.point
    settle(start)
    slope = profile.slope
    for direction in np.eye(len(start)):
        difference = (settle(start + 1e-4 * direction) - settle(start - 1e-4 * direction)) / 2e-4
        assert slope @ direction == pytest.approx(difference, abs=2e-5 * np.abs(slope).max())


def test_any_time_has_a_power_of_a_positive_phi():
    data, groups, _ = data_of()
    times = np.random.default_rng(4).uniform(0, 10, 12)
    order = Order.of(groups, times)
    assert not order.is_whole
    process = Process(process_of().family, signed=False)
    process.set_phi(np.array([0.7]))
    smoother = Smoother(process, order, np.arange(order.n_series), np.ones((12, P)))
    prior = dense(process, groups, times, order.unit)
    vectors = np.random.default_rng(5).standard_normal((12, P))
    np.testing.assert_allclose(smoother.prior(vectors).ravel(), prior @ vectors.ravel(), atol=1e-12)
    with pytest.raises(ValueError, match="whole multiples of a step"):
        fit_pln_series(data, order, Full(P), "diagonal")
    assert 0 <= fit_pln_series(data, order, Full(P), max_iter=5).process.phi[0] < 1


@pytest.mark.parametrize(("kind", "phi"), [("scalar", 0.7), ("scalar", -0.5), ("diagonal", np.array([0.9, 0.3, -0.5]))])
def test_parameters_are_recovered(kind, phi):
    data, order, stationary = simulated(60, 20, phi, seed=1)
    fit = fit_pln_series(data, order, Full(P), kind)
    assert fit.converged
    np.testing.assert_allclose(fit.process.phi, np.broadcast_to(phi, P), atol=0.05)
    assert np.linalg.norm(fit.process.stationary - stationary) < 0.25 * np.linalg.norm(stationary)
    assert fit.elbo.sum() > fit_pln(data, Full(P)).elbo.sum() + 50


def test_a_phi_of_each_gene_is_no_worse_than_one_of_all():
    """Of nearly constant series, where there are other maxima."""
    data, order, _ = simulated(3, 60, 0.995, mean=1.0)
    one, many = (fit_pln_series(data, order, Full(P), kind) for kind in PHI)
    assert many.elbo.sum() > one.elbo.sum() - 1e-3
    process = one.process.by_gene()
    np.testing.assert_allclose(process.stationary, one.process.stationary, rtol=1e-8)
    np.testing.assert_allclose(process.phi, one.process.phi)


def test_a_start_is_not_at_the_end_of_the_range():
    """Of independent samples at unequal times, whose correlation may be below 0, φ = 0 is an end: from there no slope leads back."""
    data, groups, _ = data_of()
    order = Order.of(groups, np.random.default_rng(4).uniform(0, 10, 12))
    assert fit_pln_series(data, order, Spherical(P), max_iter=1).process.phi[0] > 0.01


def test_interrupts_keep_what_was_reached():
    data, order, _ = simulated(6, 8, 0.6, seed=2)

    def stop(iteration, _):
        if iteration == 3:
            raise KeyboardInterrupt

    fit = fit_pln_series(data, order, Full(P), on_iteration=stop)
    assert not fit.converged
    assert "interrupted after 3 iterations" in fit.reason
    assert np.isfinite(fit.elbo).all()


def test_optimum_is_that_of_another_method():
    data, order, _ = simulated(6, 8, 0.6, seed=2)
    fit = fit_pln_series(data, order, Full(P), prior_precision=0, tol=1e-9)
    observations, process = Observations.of(data), copy.deepcopy(fit.process)
    states = SeriesStates(observations, terms_of(observations, None), order)
    profile = SeriesProfile(fit.coefficients, process, states, 0.0, Threads(1))

    def negative(point):
        profile.move(point)
        profile.settle(max_steps=200, tol=1e-12)
        return -profile.objective, -profile.slope

    start = profile.point + 0.1 * np.random.default_rng(0).standard_normal(len(profile.point))
    other = minimize(negative, start, jac=True, method="BFGS", options={"gtol": 1e-6})
    assert fit.elbo.sum() == pytest.approx(-other.fun, abs=1e-4)


def test_order_of_rows_and_of_genes_does_not_matter():
    data, groups, times = data_of(20)
    fit = fit_pln_series(data, Order.of(groups, times), Full(P))
    rows, genes = np.random.default_rng(6).permutation(20), np.array([2, 0, 1])
    moved = CountData(data.counts[rows][:, genes], data.offsets[rows], data.design[rows])
    other = fit_pln_series(moved, Order.of(groups[rows], times[rows]), Full(P))
    np.testing.assert_allclose(other.elbo, fit.elbo[rows], atol=1e-3)
    np.testing.assert_allclose(other.coefficients, fit.coefficients[genes], atol=1e-2)
    assert other.elbo.sum() == pytest.approx(fit.elbo.sum(), abs=1e-4)


def test_hidden_time_is_predicted_from_its_neighbours():
    data, order, _ = simulated(40, 20, 0.9, seed=3, mean=3.0)
    observed = np.ones((800, P), bool)
    hidden = np.arange(10, 800, 20)
    observed[hidden] = False
    counts = data.counts.copy()
    counts[hidden] = 10**6  # which is not looked at
    masked = CountData(counts, data.offsets, data.design, entries=Entries(observed=observed))
    fit = fit_pln_series(masked, order, Full(P))
    truth = np.log(data.counts[hidden] + 0.5)
    error = np.square(fit.mean[hidden] - truth).mean() / truth.var(0).mean()
    alone = np.square(fit_pln(masked, Full(P)).mean[hidden] - truth).mean() / truth.var(0).mean()
    assert error < 0.4 < 0.8 < alone


def test_series_of_one_sample_are_part_of_a_fit_but_not_all_of_it():
    data, groups, times = data_of()
    groups = np.where(np.arange(12) < 4, 10 + np.arange(12), groups)
    assert np.isfinite(fit_pln_series(data, Order.of(groups, times), Full(P), max_iter=5).elbo).all()
    with pytest.raises(ValueError, match="none of the 12 samples follows another"):
        fit_pln_series(data, Order.of(np.arange(12), times), Full(P))


def test_times_that_are_wrong_are_refused_by_name():
    with pytest.raises(ValueError, match="samples 'b' and 'c' are of one series and have the same time, 2"):
        Order.of([0, 0, 0], [1, 2, 2], names=["a", "b", "c"])
    with pytest.raises(ValueError, match="sample 'b' has no finite time"):
        Order.of([0, 0], [1, np.nan], names=["a", "b"])


def test_threads_do_not_matter():
    data, groups, times = data_of()
    order, process, coefficients = Order.of(groups, times), process_of(), np.zeros((P, 2))
    one, two = (infer_pln_series(data, order, coefficients, process, n_threads=n) for n in (1, 2))
    np.testing.assert_allclose(one.elbo, two.elbo, atol=1e-10)


def test_singular_covariances_do_no_harm():
    data, order, _ = simulated(1, 6, 0.5, seed=4, p=12)
    fit = fit_pln_series(data, order, Full(12))
    assert np.isfinite(fit.elbo).all()
    assert np.isfinite(fit.process.stationary).all()
