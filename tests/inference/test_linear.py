"""Linear layers with a distribution over their weights, against closed forms, quadrature, importance sampling and simulation."""

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.optimize import minimize

from scpln.inference.linear import (
    COVARIANCES,
    ClassDistances,
    abstention_threshold,
    best_temperature,
    divergence,
    draw_weights,
    evidence_bound,
    expected_log_probability,
    fit_label_weights,
    fit_value_weights,
    label_scores,
    label_sets,
    predict_labels,
    prior_precision,
    reliability_table,
    risk_coverage_table,
    softmax,
)


def make(n=60, d=2, n_classes=3, seed=0, scale=1.0):
    """Features with a column of ones, and labels that a softmax layer gives them."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, d))])
    logits = x @ rng.normal(scale=scale, size=(d + 1, n_classes))
    return x, (logits + rng.gumbel(size=logits.shape)).argmax(1).astype(np.intp)


def make_values(n=200, d=10, seed=0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)])
    return x, x @ rng.normal(size=d + 1) + rng.normal(scale=0.7, size=n)


def log_evidence(x, y, s2, noise):
    prior = np.diag(1 / prior_precision((x.shape[1], 1), s2)[:, 0])
    return scipy.stats.multivariate_normal.logpdf(y, np.zeros(len(y)), x @ prior @ x.T + noise * np.eye(len(y)))


def test_regression_has_the_exact_posterior_and_evidence():
    x, y = make_values()
    fit = fit_value_weights(x, y, prior_variance=2.0, noise_variance=0.5)
    precision = np.diag(prior_precision((11, 1), 2.0)[:, 0]) + x.T @ x / 0.5
    np.testing.assert_allclose(fit.mean, np.linalg.solve(precision, x.T @ y / 0.5), rtol=1e-10)
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(precision), rtol=1e-8, atol=1e-12)
    assert fit.bound == pytest.approx(log_evidence(x, y, 2.0, 0.5), rel=1e-10)


def test_independent_weights_are_the_mean_field_optimum():
    """μ is exact, variances are 1 / Λ_jj, and no other means and variances have a higher bound, which is that of its definition."""
    x, y = make_values()
    exact = fit_value_weights(x, y, prior_variance=2.0, noise_variance=0.5)
    fit = fit_value_weights(x, y, covariance="diagonal", prior_variance=2.0, noise_variance=0.5)
    np.testing.assert_allclose(fit.mean, exact.mean, rtol=1e-10)
    np.testing.assert_allclose(np.diag(fit.covariance), 1 / np.diag(np.linalg.inv(exact.covariance)), rtol=1e-8)
    precision = prior_precision((11, 1), 2.0)[:, 0]

    def bound(mean, variance):
        expected = scipy.stats.norm.logpdf(y, x @ mean, np.sqrt(0.5)).sum() - (x**2 @ variance).sum() / (2 * 0.5)
        kl = 0.5 * (precision * (mean**2 + variance) - 1 - np.log(precision * variance)).sum()
        return expected - kl

    best = bound(fit.mean, np.diag(fit.covariance))
    assert fit.bound == pytest.approx(best, rel=1e-10)
    assert fit.bound < exact.bound - 0.1
    rng = np.random.default_rng(1)
    for _ in range(20):
        mean = fit.mean + 1e-3 * rng.normal(size=11)
        assert bound(mean, np.diag(fit.covariance) * np.exp(0.05 * rng.normal(size=11))) < best


def test_variances_are_those_of_the_highest_evidence():
    x, y = make_values(n=80, d=4)
    fit = fit_value_weights(x, y)
    assert fit.converged
    best = minimize(
        lambda logs: -log_evidence(x, y, *np.exp(logs)), [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6}
    )
    np.testing.assert_allclose(np.log([fit.prior_variance, fit.noise_variance]), best.x, atol=1e-3)
    assert fit.bound == pytest.approx(-best.fun, abs=1e-6)


@pytest.mark.parametrize("name", COVARIANCES)
def test_divergence_is_that_of_torch(name):
    x, labels = make()
    fit = fit_label_weights(x, labels, 3, covariance=name, prior_variance=1.5)
    precision = prior_precision(fit.mean.shape, 1.5)
    covariance = np.diag(fit.covariance.variance.T.ravel()) if name == "diagonal" else fit.covariance.factor
    covariance = covariance if name == "diagonal" else covariance @ covariance.T
    q = torch.distributions.MultivariateNormal(*(torch.from_numpy(a) for a in (fit.mean.T.ravel(), covariance)))
    p = torch.distributions.MultivariateNormal(
        torch.zeros(9, dtype=torch.float64), torch.diag(torch.from_numpy(1 / precision.T.ravel()))
    )
    expected = torch.distributions.kl_divergence(q, p).item()
    assert divergence(fit.mean, fit.covariance, precision) == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(fit.covariance.variance.T.ravel(), np.diag(covariance), rtol=1e-10)


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_expected_logarithm_is_bounded_and_nearly_reached(name):
    x, labels = make(n=40)
    fit = fit_label_weights(x, labels, 3, covariance=name)
    logits = x @ fit.mean
    value, slope = expected_log_probability(logits, fit.covariance.spread(x, logits), labels)
    draws = np.log(softmax(x @ draw_weights(fit.mean, fit.covariance, 20_000, 0)))[:, np.arange(40), labels]
    error = draws.std(0) / np.sqrt(20_000)
    assert (value < draws.mean(0) + 4 * error).all()
    assert (draws.mean(0) - value).mean() < 0.02
    np.testing.assert_allclose(slope.sum(1), 1)


def exact_by_quadrature(x, labels, variance):
    """Evidence, moments and grid of the difference of the two labels' weights, intercept and slope."""
    a, b = np.meshgrid(np.linspace(-12, 12, 301), np.linspace(-9, 9, 241), indexing="ij")
    logits = np.where(labels[:, None, None] == 1, 1, -1) * (x[:, :1, None] * a + x[:, 1:, None] * b)
    log_joint = -np.logaddexp(0, -logits).sum(0)
    log_joint += scipy.stats.norm.logpdf(a, 0, np.sqrt(200)) + scipy.stats.norm.logpdf(b, 0, np.sqrt(2 * variance))
    cell = (24 / 300) * (18 / 240)
    weights = np.exp(log_joint - log_joint.max())
    evidence = np.log(weights.sum() * cell) + log_joint.max()
    weights /= weights.sum()
    moments = [((weights * g).sum(), np.sqrt((weights * g**2).sum() - (weights * g).sum() ** 2)) for g in (a, b)]
    return evidence, np.array(moments), (weights, a, b)


def test_two_labels_by_quadrature():
    x, labels = make(n=40, d=1, n_classes=2, seed=3)
    evidence, moments, (weights, a, b) = exact_by_quadrature(x, labels, 1.0)
    fit = fit_label_weights(x, labels, 2, prior_variance=1.0, tol=1e-9, max_iter=300)
    assert fit.converged
    assert evidence - 0.1 < fit.bound < evidence
    draws = draw_weights(fit.mean, fit.covariance, 20_000, 0)
    difference = draws[:, :, 1] - draws[:, :, 0]
    np.testing.assert_allclose(difference.mean(0), moments[:, 0], atol=0.06)
    np.testing.assert_allclose(difference.std(0), moments[:, 1], rtol=0.08)
    exact = [(weights / (1 + np.exp(-(row[0] * a + row[1] * b)))).sum() for row in x]
    found = predict_labels(40, lambda rows: x[rows].astype(np.float32), draws[:2000])
    np.testing.assert_allclose(found.probabilities[:, 1], exact, atol=0.01)


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_fit_is_a_stationary_point(name):
    """Of the bound by means, covariance and the prior's variance."""
    x, labels = make()
    fit = fit_label_weights(x, labels, 3, covariance=name, tol=1e-10, max_iter=500)
    assert fit.converged
    ones = np.ones(60)
    best = evidence_bound(x, labels, ones, fit.mean, fit.covariance, fit.prior_variance)
    assert best == pytest.approx(fit.bound, rel=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(10):
        step = fit.covariance.scaled(0.05 * rng.normal(size=fit.mean.shape))
        assert evidence_bound(x, labels, ones, fit.mean + step, fit.covariance, fit.prior_variance) < best
    for factor in (0.9, 1.1):
        wider = type(fit.covariance).of_factor(factor * fit.covariance.factor, 3)
        assert evidence_bound(x, labels, ones, fit.mean, wider, fit.prior_variance) < best
        assert evidence_bound(x, labels, ones, fit.mean, fit.covariance, factor * fit.prior_variance) < best
    assert best > evidence_bound(x, labels, ones, fit.mean, fit.covariance, 1.3 * fit.prior_variance)


def test_three_labels_by_importance_sampling():
    """Of the exact posterior, from a wider distribution."""
    x, labels = make(n=50, d=1, n_classes=3, seed=2)
    fit = fit_label_weights(x, labels, 3, prior_variance=1.0)
    wide = type(fit.covariance).of_factor(1.3 * fit.covariance.factor, 3)
    draws = draw_weights(fit.mean, wide, 60_000, 0)
    precision = prior_precision((2, 3), 1.0)
    logits = np.einsum("nf,sfc->snc", x, draws, optimize=True)
    log_joint = np.log(softmax(logits))[:, np.arange(50), labels].sum(1) - 0.5 * (precision * draws**2).sum((1, 2))
    noise = np.linalg.solve(wide.factor, (draws - fit.mean).transpose(0, 2, 1).reshape(len(draws), -1).T)
    weights = log_joint + 0.5 * (noise**2).sum(0)
    weights = np.exp(weights - weights.max())
    weights /= weights.sum()
    assert 1 / (weights**2).sum() > 5000  # effective draws
    ours = draw_weights(fit.mean, fit.covariance, 20_000, 0)
    for a, b in ((0, 1), (1, 2)):
        one, other = (each[:, :, a] - each[:, :, b] for each in (draws, ours))
        mean = weights @ one
        sd = np.sqrt(weights @ (one - mean) ** 2)
        np.testing.assert_allclose(other.mean(0), mean, atol=0.1 * sd.max())
        np.testing.assert_allclose(other.std(0), sd, rtol=0.15)  # variational variances are too small
    evidence = np.log(np.mean(np.exp(log_joint - log_joint.max() + 0.5 * (noise**2).sum(0)))) + log_joint.max()
    evidence += 0.5 * np.log(precision).sum() + 0.5 * wide.log_det
    assert evidence - 0.1 < fit.bound < evidence


@pytest.mark.parametrize("name", COVARIANCES)
def test_without_cells_it_is_the_prior(name):
    fit = fit_label_weights(np.empty((0, 3)), np.empty(0, np.intp), 4, covariance=name, prior_variance=2.0)
    np.testing.assert_allclose(fit.mean, 0, atol=1e-12)
    np.testing.assert_allclose(fit.covariance.variance, 1 / prior_precision((3, 4), 2.0))
    assert fit.bound == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", COVARIANCES)
def test_cells_twice_are_cells_of_weight_two(name):
    x, labels = make()
    twice = fit_label_weights(np.tile(x, (2, 1)), np.tile(labels, 2), 3, covariance=name, tol=1e-9, max_iter=300)
    heavy = fit_label_weights(x, labels, 3, np.full(60, 2.0), covariance=name, tol=1e-9, max_iter=300)
    np.testing.assert_allclose(heavy.mean, twice.mean, atol=2e-4)
    assert heavy.bound == pytest.approx(twice.bound, abs=1e-4)


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_bound_of_batches_is_that_of_all_on_average(name):
    x, labels = make()
    fit = fit_label_weights(x, labels, 3, covariance=name)
    of_batches = [
        evidence_bound(x[rows], labels[rows], np.full(15, 4.0), fit.mean, fit.covariance, fit.prior_variance)
        for rows in np.random.default_rng(0).permutation(60).reshape(4, 15)
    ]
    assert np.std(of_batches) > 1
    assert np.mean(of_batches) == pytest.approx(fit.bound, abs=1e-3)


def test_a_narrow_prior_gives_base_rates():
    x, labels = make(n=300)
    fit = fit_label_weights(x, labels, 3, prior_variance=1e-8, tol=1e-9, max_iter=300)
    np.testing.assert_allclose(softmax(x @ fit.mean), np.tile(np.bincount(labels) / 300, (300, 1)), atol=2e-3)


def test_a_large_fit_that_starts_with_some_cells_is_the_same():
    x, labels = make(n=21_000, d=3)
    large = fit_label_weights(x, labels, 3, covariance="diagonal", tol=1e-8)
    assert large.converged
    heavy = fit_label_weights(x[:7000], labels[:7000], 3, np.full(7000, 3.0), covariance="diagonal", tol=1e-8)
    np.testing.assert_allclose(large.mean[1:], heavy.mean[1:], atol=0.15)
    rows = np.random.default_rng(0).permutation(21_000)
    again = fit_label_weights(x[rows], labels[rows], 3, covariance="diagonal", tol=1e-8)
    np.testing.assert_allclose(again.mean, large.mean, atol=2e-3)


def test_all_draws_at_once_are_what_each_gives():
    x, labels = make()
    fit = fit_label_weights(x, labels, 3)
    weights = draw_weights(fit.mean, fit.covariance, 7, 0)
    each = softmax(x @ weights / 1.7)
    found = predict_labels(60, lambda rows: x[rows].astype(np.float32), weights, 1.7)
    np.testing.assert_allclose(found.probabilities, each.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.entropy, scipy.stats.entropy(each.mean(0), axis=1), atol=1e-5)
    np.testing.assert_allclose(found.expected_entropy, scipy.stats.entropy(each, axis=2).mean(0), atol=1e-5)
    np.testing.assert_allclose(found.mutual_information, found.entropy - found.expected_entropy, atol=1e-9)
    first = predict_labels(10, lambda rows: x[rows].astype(np.float32), weights, 1.7)
    np.testing.assert_allclose(first.probabilities, found.probabilities[:10], atol=1e-6)
    of_draws = predict_labels(60, lambda rows: np.tile(x[rows].astype(np.float32), (7, 1, 1)), weights, 1.7)
    np.testing.assert_allclose(of_draws.probabilities, found.probabilities, atol=1e-6)


def test_calibration_error_by_hand():
    confidence, is_right = np.array([0.55, 0.6, 0.65, 0.9, 0.95, 1.0]), np.array([1, 0, 0, 1, 1, 0]).astype(bool)
    table = reliability_table(confidence, is_right, 2)
    assert table["n_cells"].tolist() == [6]
    table = reliability_table(confidence, is_right, 5)
    np.testing.assert_allclose(table["confidence"], [0.575, 0.65, 0.95])
    np.testing.assert_allclose(table["accuracy"], [0.5, 0, 2 / 3])
    probabilities = np.column_stack([confidence, 1 - confidence])
    found = label_scores(probabilities, np.where(is_right, 0, 1))
    expected = (2 * (0.575 - 0.5) + 0.65 + (1 - 0.9) + 2 * (0.975 - 0.5)) / 6  # of 15 bins, four have cells
    assert found["ece"] == pytest.approx(expected)
    assert found["accuracy"] == 0.5
    own = np.where(is_right, confidence, 1 - confidence)
    assert found["log_score"] == pytest.approx(np.log(np.maximum(own, 1e-12)).mean())
    assert found["brier"] == pytest.approx((2 * (1 - own) ** 2).mean())
    assert found["macro_f1"] == pytest.approx(0.5 * (2 * 3 / (2 * 3 + 3)))
    risk = risk_coverage_table(confidence, is_right)
    assert risk["risk"].tolist() == [1, 0.5, 1 / 3, 0.5, 0.6, 0.5]


def test_the_temperature_is_what_logits_were_multiplied_by():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=1.5, size=(20_000, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = best_temperature(lambda t: float(np.log(softmax(3 * logits / t))[np.arange(20_000), labels].mean()))
    assert found == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("by_class", [False, True])
def test_conformal_sets_cover(by_class):
    """Over 200 simulations, of a model that is wrong: 1 − α, and no more than exchangeability gives."""
    rng, alpha, n_held, n_new = np.random.default_rng(0), 0.1, 99, 200
    covered = np.empty((200, 3))
    for run in range(200):
        labels = rng.choice(3, n_held + n_new, p=[0.6, 0.2, 0.2])
        probabilities = softmax(2 * rng.normal(size=(len(labels), 3)) + 1.5 * np.eye(3)[labels])
        own = probabilities[np.arange(len(labels)), labels]
        sets = label_sets(probabilities[n_held:], own[:n_held], labels[:n_held], alpha, by_class=by_class)
        is_in = sets[np.arange(n_new), labels[n_held:]]
        covered[run] = [is_in[labels[n_held:] == c].mean() for c in range(3)] if by_class else is_in.mean()
    error = covered.std(0) / np.sqrt(200)
    assert (covered.mean(0) > 1 - alpha - 3 * error).all()
    if not by_class:
        assert abs(covered[:, 0].mean() - (1 - alpha)) < 3 * error[0]


def test_errors_among_cells_that_get_a_label_are_few_enough():
    rng = np.random.default_rng(0)
    risks = []
    for _ in range(200):
        confidence = rng.uniform(0.3, 1, 1000)
        is_right = rng.random(1000) < confidence
        limit = abstention_threshold(confidence[:500], is_right[:500], 0.1)
        risks.append(1 - is_right[500:][confidence[500:] >= limit].mean())
    assert np.mean(risks) < 0.105
    assert abstention_threshold(np.array([0.9, 0.8]), np.array([False, False]), 0.1) == np.inf


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 200)
    x = rng.normal(size=(400, 3)) * [3, 1, 0.5] + np.where(codes[:, None] == 1, [8, 0, 0], 0)
    found = ClassDistances.of(x, codes, 2)
    within = x - np.array([x[codes == c].mean(0) for c in (0, 1)])[codes]
    inverse = np.linalg.inv(within.T @ within / 400)
    means = [x[codes == c].mean(0) for c in (0, 1)]
    for row in x[::50]:
        exact = min(scipy.spatial.distance.mahalanobis(row, mean, inverse) ** 2 for mean in means)
        assert found.distances(row[None])[0] == pytest.approx(exact, rel=0.05)
    novelty = found.novelty(np.vstack([x, [[100.0, 0, 0]]]))
    assert novelty[-1] > 1
    np.testing.assert_allclose(np.sort(novelty[:-1]), np.linspace(0, 1, 400), atol=5e-3)
