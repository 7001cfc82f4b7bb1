"""Properties that every fit under a likelihood other than the closed-form Poisson one obeys."""

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import FactorAnalysis

from scpln.inference import CountData, FitResult, elbo_likelihood, fit, fit_likelihood, infer_likelihood, start_gaussian
from scpln.inference.newton.general import _fit as stages
from scpln.inference.newton.general._start import expected_counts
from scpln.module import Likelihood, make_likelihood

from .conftest import draw

COUNTS = ["nb", "zip", "zinb", "poisson_lognormal", "bernoulli"]
POSTERIORS = ["fullrank", "meanfield"]


def overdispersed(
    n: int, p: int, q: int, d: int = 1, *, theta: float = 1.5, zeros: float = 0.0, seed: int = 0
) -> CountData:
    """Negative binomial counts, some of which are replaced by zeros."""
    data, truth = draw(n, p, q, d, seed=seed, level=1.0)
    random = np.random.default_rng(seed)
    log_rates = data.offsets[:, None] + data.design @ truth["coefficients"].T + truth["latent"] @ truth["loadings"].T
    rates = np.exp(log_rates) * random.gamma(theta, 1 / theta, (n, p))
    counts = random.poisson(rates) * (random.random((n, p)) >= zeros)
    return CountData(sp.csr_matrix(counts), data.offsets, data.design)


def real_values(n: int, p: int, q: int, seed: int = 0) -> CountData:
    random = np.random.default_rng(seed)
    loadings, sd = random.standard_normal((p, q)), np.exp(0.5 * random.standard_normal(p))
    values = 2 + random.standard_normal((n, q)) @ loadings.T + sd * random.standard_normal((n, p))
    return CountData(values, np.zeros(n), np.ones((n, 1)))


def fitted(data: CountData, name: str, start: FitResult, **options) -> tuple[FitResult, Likelihood]:
    likelihood = make_likelihood(name, data.n_genes)
    return fit_likelihood(data, start, likelihood, **options), likelihood


@pytest.fixture(scope="module")
def data() -> CountData:
    return overdispersed(200, 40, 3, 2, zeros=0.1)


@pytest.fixture(scope="module")
def poisson(data) -> FitResult:
    return fit(data, 3)


@pytest.fixture(scope="module")
def fits(data, poisson) -> dict[str, tuple[FitResult, Likelihood]]:
    return {name: fitted(data, name, poisson) for name in COUNTS}


def test_poisson_stays_at_the_optimum_of_the_closed_form(data, poisson):
    result, _ = fitted(data, "poisson", poisson)
    np.testing.assert_allclose(result.elbo.mean(), poisson.elbo.mean(), atol=2e-3)
    np.testing.assert_allclose(result.loadings, poisson.loadings, atol=0.05)


@pytest.mark.parametrize("name", COUNTS)
def test_bound_never_falls_and_ends_where_it_is_said_to(name, data, poisson, fits):
    result, likelihood = fits[name]
    assert result.converged, result.reason
    bounds = np.array(result.history["elbo"])
    assert (np.diff(bounds) > -1e-4).all()
    assert (np.diff(result.history["seconds"]) > 0).all()
    np.testing.assert_allclose(bounds[-1], result.elbo.mean(), atol=1e-3)
    again = elbo_likelihood(data, result.coefficients, result.loadings, likelihood, result.mean, result.covariance)
    np.testing.assert_allclose(again, result.elbo, rtol=1e-7)
    start = make_likelihood(name, 40)
    start.initialise(expected_counts(data, poisson))
    before = elbo_likelihood(data, poisson.coefficients, poisson.loadings, start, poisson.mean, poisson.covariance)
    assert result.elbo.mean() > before.mean() + 0.1


@pytest.mark.parametrize("name", COUNTS)
def test_reaches_a_stationary_point(name, data, fits):
    """Going on from elsewhere nearby, for longer and more strictly, gets nowhere better."""
    result, _ = fits[name]
    other = fit(data, 3, seed=3, max_iter=5)
    longer, _ = fitted(data, name, other, tol=1e-6, max_iter=2000)
    assert longer.elbo.mean() - result.elbo.mean() < 0.02


@pytest.mark.parametrize("name", COUNTS)
def test_inferring_the_training_cells_gives_their_posteriors(name, data, fits):
    result, likelihood = fits[name]
    mean, covariance = infer_likelihood(data, result.coefficients, result.loadings, likelihood)
    np.testing.assert_allclose(mean, result.mean, atol=5e-3)
    np.testing.assert_allclose(covariance, result.covariance, atol=2e-3)


def test_identified_rotation(fits):
    loadings = fits["nb"][0].loadings
    gram = loadings.T @ loadings
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8)
    assert (np.diff(np.diag(gram)) <= 0).all()
    assert (loadings[np.abs(loadings).argmax(0), np.arange(3)] > 0).all()


def test_the_right_likelihood_has_the_highest_bound(poisson, fits):
    """Counts are negative binomial with extra zeros; larger models are not worse than those that they contain."""
    bounds = {name: result.elbo.mean() for name, (result, _) in fits.items()}
    assert bounds["nb"] > poisson.elbo.mean() + 1
    assert bounds["zip"] > poisson.elbo.mean() + 1
    assert bounds["zinb"] > bounds["nb"] + 0.1
    assert bounds["zinb"] > bounds["zip"] + 1


@pytest.mark.parametrize("name", ["nb", "zinb"])
@pytest.mark.parametrize("start", POSTERIORS)
def test_full_rank_is_at_least_mean_field(name, start, data, poisson, fits):
    start = poisson if start == "fullrank" else fit(data, 3, posterior="meanfield")
    mean_field, likelihood = fitted(data, name, start, posterior="meanfield")
    full, _ = fits[name]
    assert full.elbo.mean() > mean_field.elbo.mean() - 5e-3
    assert full.elbo.mean() - mean_field.elbo.mean() < 0.5
    arguments = data, mean_field.coefficients, mean_field.loadings, likelihood
    posterior = infer_likelihood(*arguments, posterior="meanfield", rotation=mean_field.rotation)
    np.testing.assert_allclose(posterior[0], mean_field.mean, atol=5e-3)
    np.testing.assert_allclose(posterior[1], mean_field.covariance, atol=2e-3)


def test_recovers_the_disturbance_of_log_rates():
    random, n, p = np.random.default_rng(0), 3000, 30
    loadings, level, sd = 0.5 * random.normal(size=(p, 2)), random.normal(-0.5, 0.3, p), random.uniform(0.4, 1.2, p)
    eta = level + random.normal(size=(n, 2)) @ loadings.T
    counts = random.poisson(np.exp(eta + sd * random.normal(size=(n, p))))
    assert 0.4 < (counts == 0).mean() < 0.7
    data = CountData(sp.csr_matrix(counts), np.zeros(n), np.ones((n, 1)))
    result, likelihood = fitted(data, "poisson_lognormal", fit(data, 2))
    found = likelihood.gene_parameters()["log_rate_sd"].numpy()
    assert np.square(found).mean() == pytest.approx(np.square(sd).mean(), rel=0.03)
    assert np.sqrt(np.mean(np.square(found / sd - 1))) < 0.1
    assert np.abs(result.coefficients[:, 0] - level).mean() < 0.1  # of η: the median of rates, and not their mean


def test_recovers_the_dispersion():
    data = overdispersed(1500, 50, 2, theta=2.0)
    _, likelihood = fitted(data, "nb", fit(data, 2))
    theta = likelihood.gene_parameters()["inverse_dispersion"].numpy()
    assert abs(np.median(theta) - 2.0) < 0.15
    assert np.quantile(theta, 0.9) < 2.8


def test_zero_inflation_is_recovered():
    data = overdispersed(1500, 30, 2, theta=4.0, zeros=0.25)
    _, likelihood = fitted(data, "zinb", fit(data, 2))
    assert abs(np.median(likelihood.gene_parameters()["zero_inflation"].numpy()) - 0.25) < 0.04


def test_negative_binomial_of_poisson_counts_is_poisson():
    data, _ = draw(400, 40, 2)
    start = fit(data, 2)
    result, likelihood = fitted(data, "nb", start)
    assert -1e-3 < result.elbo.mean() - start.elbo.mean() < 0.3
    assert np.median(likelihood.gene_parameters()["inverse_dispersion"].numpy()) > 10
    with torch.no_grad():
        likelihood.log_inverse_dispersion.fill_(14.0)
    arguments = start.coefficients, start.loadings, likelihood, start.mean, start.covariance
    np.testing.assert_allclose(elbo_likelihood(data, *arguments), start.elbo, rtol=1e-5)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize(("n", "p", "q"), [(300, 30, 3), (60, 80, 2)])
def test_gaussian_is_factor_analysis(posterior, n, p, q):
    data = real_values(n, p, q)
    likelihood = make_likelihood("gaussian", p)
    start = start_gaussian(data, q, likelihood, posterior=posterior)
    result = fit_likelihood(data, start, likelihood, posterior=posterior, tol=1e-6)
    reference = FactorAnalysis(q, svd_method="lapack", tol=1e-9, max_iter=10_000).fit(data.counts)
    np.testing.assert_allclose(result.elbo.mean(), reference.score(data.counts), atol=1e-4)
    assert result.elbo.mean() >= start.elbo.mean() - 1e-9
    covariance = result.loadings @ result.loadings.T
    np.testing.assert_allclose(covariance, reference.components_.T @ reference.components_, atol=0.05)
    np.testing.assert_allclose(likelihood.gene_parameters()["sd"].numpy() ** 2, reference.noise_variance_, rtol=0.02)
    again = infer_likelihood(
        data, result.coefficients, result.loadings, likelihood, posterior=posterior, rotation=result.rotation
    )
    np.testing.assert_allclose(again[0], result.mean, atol=1e-4)


def test_the_start_of_gaussian_observations_is_nearly_the_end():
    data = real_values(300, 30, 3)
    likelihood = make_likelihood("gaussian", 30)
    start = start_gaussian(data, 3, likelihood)
    assert start.converged
    np.testing.assert_allclose(start.history["elbo"][-1], start.elbo.mean(), atol=1e-6)
    result = fit_likelihood(data, start, likelihood)
    assert result.elbo.mean() - start.elbo.mean() < 0.01
    assert len(result.history["elbo"]) < 20


@pytest.mark.parametrize("format_", ["dense", "on disk"])
def test_formats_give_the_same_fit(format_, data, poisson, fits, tmp_path):
    if format_ == "dense":
        other = CountData(data.counts.toarray(), data.offsets, data.design)
        actual, _ = fitted(other, "nb", poisson)
    else:
        with h5py.File(tmp_path / "counts.h5", "w") as file:
            counts = file.create_dataset("counts", data=data.counts.toarray())
            actual, _ = fitted(CountData(counts, data.offsets, data.design), "nb", poisson)
    np.testing.assert_array_equal(actual.loadings, fits["nb"][0].loadings)


@pytest.mark.parametrize("options", [{"batch_size": 17}, {"n_threads": 1}, {"batch_size": 50, "n_threads": 3}])
def test_blocks_and_threads_give_the_same_fit(options, data, poisson, fits):
    before = torch.get_num_threads()
    actual, _ = fitted(data, "nb", poisson, **options)
    np.testing.assert_allclose(actual.elbo.mean(), fits["nb"][0].elbo.mean(), atol=2e-3)
    assert torch.get_num_threads() == before


def test_starting_from_a_part_of_the_cells_gives_the_same_fit(monkeypatch):
    data = overdispersed(900, 40, 2)
    start = fit(data, 2)
    expected, _ = fitted(data, "nb", start, tol=1e-6)
    monkeypatch.setattr(stages, "COARSE_CELLS", 150)
    actual, _ = fitted(data, "nb", start, tol=1e-6)
    np.testing.assert_allclose(actual.elbo.mean(), expected.elbo.mean(), atol=1e-3)


@pytest.mark.parametrize("after", [1, 3])
def test_interrupt_keeps_what_was_reached(after, data, poisson):
    def interrupt(iteration: int, _bound: float) -> None:
        if iteration == after:
            raise KeyboardInterrupt

    result, _ = fitted(data, "nb", poisson, on_iteration=interrupt)
    assert not result.converged
    assert result.interrupted
    assert result.elbo.mean() >= max(result.history["elbo"]) - 1e-3


def test_max_iter_is_said(data, poisson):
    result, _ = fitted(data, "nb", poisson, max_iter=2)
    assert not result.converged
    assert "2 iterations, the maximum" in result.reason
    assert len(result.history["elbo"]) == 2


HARD = {
    "one gene": lambda counts: (counts[:, :1], 1),
    "one cell": lambda counts: (counts[:1], 1),
    "fewer cells than latent dimensions": lambda counts: (counts[:3], 5),
    "no counts at all": lambda counts: (counts * 0, 2),
    "an empty cell and an empty gene": lambda counts: (counts * np.outer(np.arange(200) != 3, np.arange(40) != 4), 3),
    "counts of a million": lambda counts: (counts * 200_000, 2),
    "rare counts of a million": lambda counts: (10**6 * (counts > np.quantile(counts, 0.97)), 3),
    "counts without zeros": lambda counts: (counts + 1, 2),
}


@pytest.mark.filterwarnings("ignore:The posteriors of .* did not converge")  # as they say: the data are hard
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "posterior"), [*((name, "fullrank") for name in COUNTS), ("zinb", "meanfield")])
@pytest.mark.parametrize("case", HARD)
def test_hard_data_have_finite_results(case, name, posterior, data):
    counts, q = HARD[case](data.counts.toarray())
    n = len(counts)
    hard = CountData(sp.csr_matrix(counts), np.zeros(n), np.ones((n, 1)))
    result, likelihood = fitted(
        hard, name, fit(hard, q, posterior=posterior, max_iter=20), posterior=posterior, max_iter=15
    )
    for numbers in (result.coefficients, result.loadings, result.mean, result.covariance, result.elbo):
        assert np.isfinite(numbers).all()
    bounds = np.array(result.history["elbo"])
    assert (np.diff(bounds) >= -1e-6 * np.abs(bounds[:-1])).all()
    for value in likelihood.parameters():
        assert value.isfinite().all()
    posterior = infer_likelihood(hard, result.coefficients, result.loadings, likelihood)
    assert all(np.isfinite(numbers).all() for numbers in posterior)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n", "p", "q"), [(1, 5, 1), (3, 8, 5), (30, 2, 4), (30, 1, 1)])
def test_hard_real_values_have_finite_results(n, p, q):
    data = real_values(n, p, q)
    data.counts[:, 0] = 3.0
    likelihood = make_likelihood("gaussian", p)
    start = start_gaussian(data, q, likelihood)
    result = fit_likelihood(data, start, likelihood, max_iter=30)
    for numbers in (start.elbo, result.coefficients, result.loadings, result.mean, result.covariance, result.elbo):
        assert np.isfinite(numbers).all()


def test_sizes_must_match(data, poisson):
    with pytest.raises(ValueError, match=r"200 cells and 40 genes.*likelihood has 7 genes"):
        fit_likelihood(data, poisson, make_likelihood("nb", 7))


def test_what_is_not_finite_is_named(data, poisson):
    offsets = data.offsets.copy()
    offsets[5] = np.nan
    with pytest.raises(FloatingPointError, match="cell 5 is not finite: look for a size factor"):
        fitted(CountData(data.counts, offsets, data.design), "nb", poisson)


def test_values_that_are_not_finite_are_named():
    data = real_values(20, 5, 1)
    data.counts[7, 3] = np.nan
    with pytest.raises(FloatingPointError, match=r"Genes \[3\] have values that are not finite"):
        start_gaussian(data, 1, make_likelihood("gaussian", 5))


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_fit_that_starts_at_its_optimum_converges(seed):
    """Start and end are compared under the same quadrature."""
    random = np.random.default_rng(seed)
    rates = np.exp(random.normal(size=(80, 2)) @ random.normal(size=(2, 15))) * random.gamma(2, 0.5, size=(80, 15))
    data = CountData(sp.csr_matrix(random.poisson(rates)), np.zeros(80), np.ones((80, 1)))
    likelihood = make_likelihood("bernoulli", 15)
    first = fit_likelihood(data, fit(data, 2), likelihood, tol=1e-6)
    again = fit_likelihood(data, first, likelihood, tol=1e-6)
    assert first.converged
    assert again.converged
    assert again.elbo.mean() == pytest.approx(first.elbo.mean(), abs=1e-5)
