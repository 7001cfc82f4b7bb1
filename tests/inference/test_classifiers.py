"""Mixtures of linear classifiers: against enumeration, scipy, scikit-learn, automatic derivatives, and laws that every family obeys."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.special import digamma, gammaln, polygamma
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture

from scpln.inference.classifiers import (
    COVARIANCES,
    MISSING,
    ClassifierData,
    DirichletComponents,
    DirichletMultinomialComponents,
    FitOptions,
    GaussianComponents,
    MixtureParameters,
    Scaling,
    centred_log_ratio,
    coefficient_covariance,
    component_probabilities,
    dirichlet_fixed_point,
    dirichlet_newton,
    expectation,
    family,
    fit_logistic,
    fit_mixture_classifier,
    icl,
    inverse_digamma,
    log_class_probabilities,
    log_likelihood,
    maximization,
    mutual_information,
    run_em,
    separated,
    start_parameters,
    trigamma,
)

FAMILIES = {
    **{f"gaussian, {name}": ("gaussian", {"covariance": name, "ridge": 1e-3}) for name in COVARIANCES},
    "dirichlet": ("dirichlet", {"scale": 3.0}),
    "dirichlet_multinomial": ("dirichlet_multinomial", {"scale": 3.0}),
}


def make(name, n=150, n_classes=2, seed=0, missing=0.2):
    """Rows of two kinds, some without a label."""
    random = np.random.default_rng(seed)
    kind = random.integers(2, size=n)
    if name == "gaussian":
        x = random.standard_normal((n, 3)) * np.where(kind, 1.0, 1.7)[:, None] + 2.5 * kind[:, None]
    else:
        shares = np.array([random.dirichlet([[5.0, 3, 1, 2], [1.0, 3, 6, 2]][k]) for k in kind])
        x = shares if name == "dirichlet" else np.array([random.multinomial(40, each) for each in shares]).astype(float)
    own = x if name == "gaussian" else centred_log_ratio(x, 0.5 if name == "dirichlet_multinomial" else 0)
    features = Scaling.of(own, np.ones(n)).design(own)
    logits = features @ random.normal(0, 1.5, (2, features.shape[1], n_classes))
    noise = random.gumbel(size=(n, n_classes))
    labels = (logits[kind, np.arange(n)] + noise).argmax(1)
    labels[random.random(n) < missing] = MISSING
    weights = random.integers(1, 4, n).astype(float)
    return ClassifierData(family(name).statistics(x), features, labels, weights, n_classes)


def options(which, **more):
    name, of_family = FAMILIES[which]
    return FitOptions(components=name, family=of_family, **more)


def started(which, k=3, n_classes=2, seed=0, **more):
    data = make(FAMILIES[which][0], n_classes=n_classes, seed=seed)
    share = np.random.default_rng(seed).dirichlet(np.ones(k), size=len(data))
    return data, start_parameters(data, share, options(which, **more))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("which", FAMILIES)
def test_the_penalised_likelihood_rises_in_every_step(which, n_classes):
    for seed in range(3):
        data, parameters = started(which, 4, n_classes, seed)
        run = run_em(parameters, data, max_steps=60, tol=1e-12)
        assert len(run.path) > 5
        assert np.diff(run.path).min() > -1e-9 * abs(run.path[0])
        assert run.path[-1] - run.path[0] > 1


@pytest.mark.parametrize("which", FAMILIES)
def test_every_part_of_a_step_raises_its_own_part(which):
    """The expected complete penalised log-likelihood of components, and of classifiers."""
    data, parameters = started(which)
    share, _ = expectation(parameters, data)
    new = maximization(parameters, data, share)
    weighted = share * data.weights[:, None]

    def of_components(components):
        return (weighted * components.log_prob(data.statistics)).sum() + components.log_prior

    assert of_components(new.components) >= of_components(parameters.components) - 1e-9
    np.testing.assert_allclose(new.weights, weighted.sum(0) / weighted.sum())


@pytest.mark.parametrize("which", [f"gaussian, {name}" for name in COVARIANCES])
def test_gaussian_steps_are_stationary(which):
    """Derivatives of the expected penalised log-likelihood by autograd, at the closed form."""
    data, parameters = started(which, 2)
    share, _ = expectation(parameters, data)
    weighted = torch.tensor(share * data.weights[:, None])
    found = parameters.components.maximized(data.statistics, weighted.numpy())
    x, ridge = torch.tensor(data.statistics), torch.tensor(found.ridge)
    means = torch.tensor(found.means, requires_grad=True)
    free = torch.tensor(np.array(found.covariances), requires_grad=True)
    d, total = x.shape[1], 0.0
    dense = {
        "full": lambda: free,
        "tied": lambda: free.expand(2, d, d),
        "diagonal": lambda: torch.diag_embed(free),
        "spherical": lambda: free[:, None, None] * torch.eye(d, dtype=torch.float64),
    }[found.covariance]()
    for k in range(2):
        normal = torch.distributions.MultivariateNormal(means[k], dense[k])
        total = total + (weighted[:, k] * normal.log_prob(x)).sum()
    for matrix in dense[:1] if found.covariance == "tied" else dense:
        total = total - 0.5 * torch.trace(torch.diag(ridge) @ torch.linalg.inv(matrix))
    total.backward()
    scale = weighted.sum().item()
    assert means.grad.abs().max() < 1e-9 * scale
    assert free.grad.abs().max() < 1e-9 * scale


@pytest.mark.parametrize("which", FAMILIES)
def test_densities_are_those_of_scipy(which):
    data, parameters = started(which, 2)
    found = parameters.components
    log_prob = found.log_prob(data.statistics)
    for k in range(2):
        if found.name == "gaussian":
            expected = stats.multivariate_normal(found.means[k], found.dense[k]).logpdf(data.statistics)
        elif found.name == "dirichlet":
            expected = stats.dirichlet(found.concentrations[k]).logpdf(np.exp(data.statistics).T)
        else:
            n = data.statistics.sum(1).astype(int)
            expected = stats.dirichlet_multinomial(found.concentrations[k], n).logpmf(data.statistics.astype(int))
        np.testing.assert_allclose(log_prob[:, k], expected, rtol=1e-9)


def test_dirichlet_multinomial_adds_up_to_1():
    found = DirichletMultinomialComponents(np.array([[0.3, 2.0, 5.0], [4.0, 0.1, 0.1]]))
    tables = np.array([each for each in itertools.product(range(8), repeat=3) if sum(each) == 7], dtype=float)
    np.testing.assert_allclose(np.exp(found.log_prob(tables)).sum(0), 1, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("which", FAMILIES)
def test_responsibilities_by_enumeration(which, n_classes):
    """p(z | x, y) of every row from densities that are multiplied, not added in logarithms."""
    data, parameters = started(which, 3, n_classes)
    share, total = expectation(parameters, data)
    density, expected = np.exp(parameters.components.log_prob(data.statistics)), np.empty_like(share)
    likelihood = 0.0
    for i, label in enumerate(data.labels):
        terms = []
        for k in range(3):
            eta = parameters.coefficients[k] @ data.features[i]
            p = (
                [1 / (1 + math.exp(eta[0])), 1 / (1 + math.exp(-eta[0]))]
                if n_classes == 2
                else np.exp(eta) / np.exp(eta).sum()
            )
            terms.append(parameters.weights[k] * density[i, k] * (1 if label == MISSING else p[label]))
        expected[i] = np.array(terms) / sum(terms)
        likelihood += data.weights[i] * math.log(sum(terms))
    np.testing.assert_allclose(share, expected, atol=1e-10)
    assert total == pytest.approx(likelihood, rel=1e-12)


@pytest.mark.parametrize("which", FAMILIES)
def test_probabilities_of_labels_are_ratios_of_likelihoods(which):
    """p(c | x) = p(x, y = c) / p(x), and they add up to 1."""
    data, parameters = started(which, 3, 3)
    log_p = log_class_probabilities(parameters, data)
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1)
    of_x = log_likelihood(parameters, data, with_labels=False)
    for label in range(3):
        with_it = ClassifierData(data.statistics, data.features, np.full(len(data), label), data.weights, 3)
        np.testing.assert_allclose(log_p[:, label], log_likelihood(parameters, with_it) - of_x, atol=1e-9)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_without_labels_it_is_a_gaussian_mixture(covariance):
    """scikit-learn's, from the same start; all labels missing, and no ridge."""
    data = make("gaussian", n=300)
    data = ClassifierData(data.statistics, data.features, np.full(len(data), MISSING), np.ones(len(data)), 2)
    share = np.eye(2)[(data.statistics[:, 0] > 1).astype(int)] * 0.9 + 0.05
    first = start_parameters(data, share, FitOptions(family={"covariance": covariance, "ridge": 0.0}))
    run = run_em(first, data, max_steps=5000, tol=1e-13)
    inverse = {
        "full": lambda c: np.linalg.inv(c),
        "tied": lambda c: np.linalg.inv(c),
        "diagonal": lambda c: 1 / c,
        "spherical": lambda c: 1 / c,
    }[covariance](first.components.covariances)
    peer = GaussianMixture(
        2,
        covariance_type={"diagonal": "diag"}.get(covariance, covariance),
        weights_init=first.weights,
        means_init=first.components.means,
        precisions_init=inverse,
        reg_covar=0.0,
        tol=1e-13,
        max_iter=5000,
    ).fit(data.statistics)
    assert run.log_likelihood / len(data) == pytest.approx(peer.score(data.statistics), abs=1e-9)
    np.testing.assert_allclose(run.parameters.components.means, peer.means_, atol=1e-5)
    np.testing.assert_allclose(run.parameters.coefficients, 0)  # the prior's mode: no label says anything


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_component_is_a_gaussian_and_a_logistic_regression(n_classes):
    data = make("gaussian", n_classes=n_classes)
    run = fit_mixture_classifier(data, data.features[:, 1:], 1, FitOptions(family={"ridge": 0.0}, tol=1e-12))
    known = data.labels != MISSING
    peer = LogisticRegression(C=2.5**2, tol=1e-10, max_iter=10_000).fit(
        data.features[known, 1:], data.labels[known], data.weights[known]
    )
    np.testing.assert_allclose(run.parameters.coefficients[0, :, 1:], peer.coef_, atol=1e-5)
    intercepts = run.parameters.coefficients[0, :, 0] - run.parameters.coefficients[0, :, 0].mean() * (n_classes > 2)
    np.testing.assert_allclose(intercepts, peer.intercept_ - peer.intercept_.mean() * (n_classes > 2), atol=1e-5)
    np.testing.assert_allclose(
        run.parameters.components.means[0], np.average(data.statistics, axis=0, weights=data.weights)
    )
    np.testing.assert_allclose(
        run.parameters.components.covariances[0], np.cov(data.statistics.T, fweights=data.weights.astype(int), ddof=0)
    )


def test_equal_densities_are_a_mixture_of_logistic_regressions():
    """π and f the same for both: responsibilities are Bishop's, 14.5.2, π_k p_k(y) / Σ π p(y)."""
    data = make("gaussian", missing=0.0)
    same = GaussianComponents(np.zeros((2, 3)), np.stack([np.eye(3)] * 2), np.zeros(3))
    weights = np.random.default_rng(0).normal(size=(2, 1, 4))
    parameters = MixtureParameters(np.array([0.3, 0.7]), same, weights)
    p = 1 / (1 + np.exp(-data.features @ weights[:, 0].T))
    terms = parameters.weights * np.where(data.labels[:, None] == 1, p, 1 - p)
    np.testing.assert_allclose(component_probabilities(parameters, data), terms / terms.sum(1, keepdims=True))


@pytest.mark.parametrize("which", FAMILIES)
def test_order_of_components_does_not_matter(which):
    data, parameters = started(which)
    one = run_em(parameters, data, max_steps=5, tol=1e-12)
    other = run_em(parameters.subset(np.array([2, 0, 1])), data, max_steps=5, tol=1e-12)
    np.testing.assert_allclose(one.path, other.path, rtol=1e-10)
    np.testing.assert_allclose(one.responsibilities[:, [2, 0, 1]], other.responsibilities, atol=1e-8)


@pytest.mark.parametrize("which", FAMILIES)
def test_weights_are_repeated_rows(which):
    data, parameters = started(which)
    rows = np.repeat(np.arange(len(data)), data.weights.astype(int))
    twice = data.subset(rows)
    twice = ClassifierData(twice.statistics, twice.features, twice.labels, np.ones(len(rows)), 2)
    one, other = (run_em(parameters, each, max_steps=4, tol=1e-12) for each in (data, twice))
    np.testing.assert_allclose(one.path, other.path, rtol=1e-10)


def test_missing_labels_say_nothing():
    """The derivative of the likelihood by coefficients has no part of rows without a label."""
    data, parameters = started("gaussian, full")
    known = data.subset(data.labels != MISSING)
    share, _ = expectation(parameters, data)
    new = maximization(parameters, data, share)
    same = maximization(parameters, known, share[data.labels != MISSING])
    np.testing.assert_allclose(new.coefficients, same.coefficients, atol=1e-9)
    assert np.abs(new.components.means - same.components.means).max() > 1e-3


def dirichlet_optimum(mean_log, size=1.0, scale=np.inf):
    def negative(theta):
        alpha = np.exp(theta)
        fit = gammaln(alpha.sum()) - gammaln(alpha).sum() + (alpha - 1) @ mean_log
        slope = alpha * (digamma(alpha.sum()) - digamma(alpha) + mean_log)
        return -size * fit + 0.5 * ((theta / scale) ** 2).sum(), -size * slope + theta / scale**2

    found = minimize(negative, np.zeros(len(mean_log)), jac=True, method="BFGS", options={"gtol": 1e-11})
    return np.exp(found.x)


@pytest.mark.parametrize("alpha", [[2.0, 3.0, 5.0], [0.2, 0.5, 8.0, 1.0], list(np.linspace(2, 60, 50))])
def test_newton_and_fixed_point_have_the_optimum(alpha):
    random = np.random.default_rng(1)
    mean_log = np.log(random.dirichlet(alpha, size=500)).mean(0)
    start = np.ones(len(alpha))
    newton, steps = dirichlet_newton(start, mean_log)
    np.testing.assert_allclose(digamma(newton) - digamma(newton.sum()), mean_log, atol=1e-10)
    np.testing.assert_allclose(newton, dirichlet_optimum(mean_log), rtol=1e-5)
    fixed, slow = dirichlet_fixed_point(start, mean_log, max_steps=20_000)
    np.testing.assert_allclose(fixed, newton, rtol=1e-5)
    assert steps < 25 < slow


def test_five_steps_of_the_fixed_point_are_not_enough():
    """The published notes say that they are; it is Newton's method for ψ⁻¹ of which that is true."""
    alpha = np.linspace(2, 60, 50)
    mean_log = digamma(alpha) - digamma(alpha.sum())
    few, _ = dirichlet_fixed_point(np.ones(50), mean_log, max_steps=5)
    assert np.abs(few - alpha).max() / alpha.max() > 0.5
    exact, steps = dirichlet_newton(np.ones(50), mean_log)
    np.testing.assert_allclose(exact, alpha, rtol=1e-8)
    assert steps <= 15


def test_the_prior_of_concentrations_is_met():
    mean_log = np.log(np.random.default_rng(0).dirichlet([2.0, 3.0, 5.0], size=4)).mean(0)
    found, _ = dirichlet_newton(np.ones(3), mean_log, 4.0, scale=0.7)
    np.testing.assert_allclose(found, dirichlet_optimum(mean_log, 4.0, 0.7), rtol=1e-5)
    assert np.isfinite(dirichlet_newton(np.ones(3), np.log([0.2, 0.3, 0.5]), 1.0, scale=3.0)[0]).all()


def test_dirichlet_multinomial_has_the_optimum():
    """Repeated steps against a general optimiser of scipy's own log-probabilities."""
    random = np.random.default_rng(0)
    counts = np.array([random.multinomial(60, random.dirichlet([3.0, 1.0, 0.4, 6.0])) for _ in range(80)]).astype(float)
    found = DirichletMultinomialComponents.start(counts, np.ones((80, 1)))
    for _ in range(60):
        found = found.maximized(counts, np.ones((80, 1)))

    def negative(theta):
        fit = stats.dirichlet_multinomial(np.exp(theta), 60).logpmf(counts.astype(int)).sum()
        return -fit + 0.5 * ((theta / 3.0) ** 2).sum()

    best = minimize(negative, np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(np.log(found.concentrations[0]), best.x, atol=1e-4)


def test_a_component_of_one_row_stays_finite():
    counts = np.array([[5.0, 0.0, 20.0]])
    for start in (DirichletMultinomialComponents.start, DirichletComponents.start):
        given = counts if start == DirichletMultinomialComponents.start else np.log((counts + 1) / (counts + 1).sum())
        found = start(given, np.ones((1, 1)))
        for _ in range(50):
            found = found.maximized(given, np.ones((1, 1)))
        assert np.isfinite(found.concentrations).all()
        assert np.isfinite(found.log_prob(given)).all()
    one = GaussianComponents.start(np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]]), np.eye(3))
    assert np.isfinite(one.log_prob(one.means)).all()


def test_separated_classes_have_finite_weights():
    x = np.column_stack([np.ones(20), np.linspace(-1, 1, 20)])
    labels = (x[:, 1] > 0).astype(int)
    found = fit_logistic(x, labels, np.ones(20), np.zeros((1, 2)))
    assert 1 < found[0, 1] < 20
    peer = LogisticRegression(C=2.5**2, tol=1e-10).fit(x[:, 1:], labels)
    assert found[0, 1] == pytest.approx(peer.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_errors_are_those_of_the_observed_information(n_classes):
    """Second derivatives of the penalised log-likelihood by all coefficients, by autograd."""
    data = make("gaussian", n=400, n_classes=n_classes)
    run = fit_mixture_classifier(data, data.features[:, 1:], 2, FitOptions(tol=1e-12, max_steps=5000))
    parameters = run.parameters
    found = coefficient_covariance(parameters, data, run.responsibilities)
    known = torch.tensor(data.labels != MISSING)
    features, labels = torch.tensor(data.features)[known], torch.tensor(data.labels)[known]
    weights = torch.tensor(data.weights)[known]
    density = torch.tensor(np.log(parameters.weights) + parameters.components.log_prob(data.statistics))[known]
    shape = parameters.coefficients.shape

    def penalised(flat):
        w = flat.reshape(shape)
        logits = torch.einsum("if,krf->ikr", features, w)
        if n_classes == 2:
            logits = torch.cat([torch.zeros_like(logits), logits], 2)
        own = torch.log_softmax(logits, 2)[torch.arange(len(labels)), :, labels]
        prior = 0.5 * ((w[:, :, 1:] / 2.5) ** 2).sum()
        return (weights * torch.logsumexp(density + own, 1)).sum() - prior

    flat = torch.tensor(parameters.coefficients).reshape(-1)
    assert torch.autograd.functional.jacobian(penalised, flat).abs().max() < 1e-2
    information = -torch.autograd.functional.hessian(penalised, flat).numpy()
    if n_classes == 2:
        np.testing.assert_allclose(np.linalg.inv(found), information, atol=1e-7 * np.abs(information).max())
    else:  # intercepts of all classes may move together: compare contrasts, which cannot
        contrast = np.kron(np.eye(2), np.kron(np.array([[1, -1, 0], [0, 1, -1]]), np.eye(4)))
        expected = contrast @ np.linalg.pinv(information, rcond=1e-10) @ contrast.T
        np.testing.assert_allclose(contrast @ found @ contrast.T, expected, rtol=1e-5, atol=1e-7)


def test_empty_components_are_dropped_and_said():
    data, parameters = started("gaussian, full", 2)
    far = GaussianComponents(
        np.vstack([parameters.components.means, np.full((1, 3), 1e3)]),
        np.concatenate([parameters.components.covariances, np.eye(3)[None]]),
        parameters.components.ridge,
    )
    three = MixtureParameters(
        np.array([0.4, 0.4, 0.2]), far, np.concatenate([parameters.coefficients, np.zeros((1, 1, 4))])
    )
    run = run_em(three, data)
    assert (run.n_dropped, run.parameters.n_components) == (1, 2)
    assert np.isfinite(run.responsibilities).all()
    np.testing.assert_allclose(run.parameters.weights.sum(), 1)


def test_a_run_that_is_not_finite_has_not_converged(monkeypatch):
    data, parameters = started("gaussian, full", 2)
    share = np.full((len(data), 2), 0.5)
    monkeypatch.setattr("scpln.inference.classifiers._em.expectation", lambda *_: (share, np.nan))
    run = run_em(parameters, data)
    assert not run.converged
    assert run.n_steps == 1


def test_criteria():
    share = np.array([[0.9, 0.1], [0.5, 0.5]])
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) * 2 + 3 * math.log(2)
    assert icl(-10.0, 4, np.array([2.0, 3.0]), share) == pytest.approx(20 + 4 * math.log(5) + 2 * entropy)
    labels = np.array([0, 1])
    joint = np.array([[0.45, 0.25], [0.05, 0.25]])
    outer = joint.sum(1, keepdims=True) * joint.sum(0)
    assert mutual_information(share, labels, np.ones(2), 2) == pytest.approx((joint * np.log(joint / outer)).sum())


@pytest.mark.parametrize("which", FAMILIES)
def test_numbers_of_parameters(which):
    _, parameters = started(which, 3, 2)
    of_x = {"full": 9 + 18, "diagonal": 18, "spherical": 12, "tied": 9 + 6}.get(
        FAMILIES[which][1].get("covariance"), 12
    )
    assert parameters.n_parameters == 2 + of_x + 3 * parameters.coefficients.shape[2]


def test_separation_is_noticed():
    data = make("gaussian", missing=0.0)
    clear = ClassifierData(data.statistics, data.features, (data.features[:, 1] > 0).astype(int), data.weights, 2)
    run = fit_mixture_classifier(clear, clear.features[:, 1:], 1)
    near = np.flatnonzero(np.abs(data.features[:, 1]) > 0.3)
    assert separated(run.parameters, clear.subset(near), run.responsibilities[near]).all()
    assert not separated(run.parameters, data, run.responsibilities).any()


@pytest.mark.parametrize("name", ["gaussian", "dirichlet", "dirichlet_multinomial"])
def test_draws_have_the_moments_of_the_model(name):
    which = "gaussian, full" if name == "gaussian" else name
    _, parameters = started(which, 2)
    found, random = parameters.components, np.random.default_rng(0)
    x = found.sample(np.repeat([0, 1], 40_000), random, np.full(80_000, 40))
    for k in range(2):
        mine = x[40_000 * k : 40_000 * (k + 1)]
        expected = found.means[k] if name == "gaussian" else found.concentrations[k] / found.concentrations[k].sum()
        scale = 40 if name == "dirichlet_multinomial" else 1
        error = mine.std(0) / 200
        assert (np.abs(mine.mean(0) - scale * expected) < 5 * error).all()


def test_special_functions():
    x = np.geomspace(1e-4, 1e6, 400)
    np.testing.assert_allclose(trigamma(x), polygamma(1, x), rtol=1e-12)
    np.testing.assert_allclose(inverse_digamma(digamma(x)), x, rtol=1e-8)
