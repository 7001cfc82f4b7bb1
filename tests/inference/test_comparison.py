"""Tests of groups' means on plain arrays: against statsmodels, scipy and exact sums; calibrated, and the same however it is written."""

import numpy as np
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from scipy import stats

from scpln.inference.comparison import (
    Samples,
    benjamini_hochberg,
    compare_counts,
    compare_values,
    independent_columns,
    shrink,
)
from scpln.inference.comparison._dispersion import common_dispersion
from scpln.inference.comparison._glm import deviances, fit_regression
from scpln.inference.comparison._moderation import Prior
from scpln.inference.comparison._unit_deviance import deviance_moments


def negative_binomial(rng, means, dispersion):
    return rng.poisson(means * rng.gamma(1 / dispersion, dispersion, means.shape))


def two_groups(seed, n=(20, 20), n_genes=300, changed=0, dispersion=0.5, depth=1.0, level=0.5):
    """Counts of independent genes; the first `changed` are three times as high in the first group, or a third."""
    rng = np.random.default_rng(seed)
    side = np.repeat([True, False], n)
    offsets = rng.normal(0, 0.3, len(side)) + np.log(depth) * side
    effect = np.zeros(n_genes)
    effect[:changed] = np.log(3) * np.resize([1, -1], changed)
    eta = offsets[:, None] + rng.normal(level, 1, n_genes) + np.outer(side, effect)
    return negative_binomial(rng, np.exp(eta), dispersion), side, offsets


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(60), np.arange(60) < 25, rng.normal(size=60)])
    offsets = rng.normal(0, 0.5, 60)
    means = np.exp(offsets[:, None] + design @ rng.normal(0.5, 0.5, (3, 8)))
    return negative_binomial(rng, means, 0.4).astype(float), design, offsets


@pytest.mark.parametrize("dispersion", [1e-6, 0.4, 3.0])
def test_regression_is_that_of_statsmodels(regression, dispersion):
    counts, design, offsets = regression
    fitted = fit_regression(counts, design, offsets, dispersion, np.zeros(3))
    unit = deviances(counts, fitted.means, dispersion)
    for gene in range(counts.shape[1]):
        family = sm.families.NegativeBinomial(alpha=dispersion)
        known = sm.GLM(counts[:, gene], design, family, offset=offsets).fit(tol=1e-12)
        np.testing.assert_allclose(fitted.coefficients[gene], known.params, atol=1e-5)
        np.testing.assert_allclose(fitted.inverse[gene], known.cov_params(scale=1.0), rtol=1e-4, atol=1e-7)
        scaled = np.sqrt(known.mu / (1 + dispersion * known.mu))[:, None] * design
        hat = scaled @ np.linalg.pinv(scaled)
        np.testing.assert_allclose(fitted.leverages[:, gene], np.diagonal(hat), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(unit[:, gene].sum(), known.deviance, rtol=1e-5)


def test_a_side_without_counts_has_finite_estimates(regression):
    counts, design, offsets = regression
    counts = counts.copy()
    counts[:25, 0] = 0
    fitted = fit_regression(counts, design, offsets, 0.4, np.array([0, 1 / 9, 0.01]))
    assert -12 < fitted.coefficients[0, 1] < -3
    assert np.isfinite(fitted.inverse).all()


@pytest.mark.parametrize("dispersion", [0.01, 0.5, 4.0])
@pytest.mark.parametrize("mean", [0.02, 0.7, 30.0])
def test_moments_of_deviances_are_those_of_draws(mean, dispersion):
    draws = negative_binomial(np.random.default_rng(1), np.full(400_000, mean), dispersion)
    unit = deviances(draws[:, None].astype(float), np.array([[mean]]), dispersion)
    first, second = deviance_moments(np.array([mean]), dispersion)
    np.testing.assert_allclose(first, unit.mean(), rtol=0.03)
    np.testing.assert_allclose(second, unit.var(), rtol=0.08)


@pytest.mark.parametrize("n_cells", [10, 200])
def test_dispersion_is_found_from_few_cells_too(n_cells):
    rng = np.random.default_rng(2)
    means = np.tile(np.exp(rng.normal(1, 0.2, 2000)), (n_cells, 1))
    counts = negative_binomial(rng, means, 0.8).astype(float)
    design = np.column_stack([np.ones(n_cells), np.arange(n_cells) < n_cells // 2])
    fitted = fit_regression(counts, design, np.zeros(n_cells), 0.8, np.array([0, 1 / 9]))
    assert common_dispersion(counts, fitted.means, fitted.leverages) == pytest.approx(0.8, rel=0.1)


def test_prior_of_scales_is_found():
    rng = np.random.default_rng(3)
    true = 2.0 * 6 / rng.chisquare(6, 20_000)
    prior = Prior.of(true * rng.chisquare(4, 20_000) / 4, np.full(20_000, 4.0))
    assert prior.scale == pytest.approx(2.0, rel=0.05)
    assert prior.df == pytest.approx(6.0, rel=0.1)
    alike = Prior.of(rng.chisquare(4, 2000) / 4, np.full(2000, 4.0))
    assert alike.df > 50
    assert alike.scale == pytest.approx(1, rel=0.05)


def test_real_values_of_few_genes_are_compared_by_welch():
    rng = np.random.default_rng(4)
    side = np.arange(15) < 6
    values = rng.normal(size=(15, 2)) * np.where(side, 1.0, 3.0)[:, None]
    known = stats.ttest_ind(values[side], values[~side], equal_var=False)
    tests = compare_values(values, side, np.zeros(15))
    np.testing.assert_allclose(tests.p_values, known.pvalue, rtol=1e-8)
    np.testing.assert_allclose(tests.effects / tests.errors, known.statistic, rtol=1e-8)


def test_real_values_are_those_of_least_squares():
    rng = np.random.default_rng(5)
    side, covariate = np.arange(30) < 14, rng.normal(size=(30, 1))
    values = rng.normal(size=(30, 40)) + covariate
    tests = compare_values(values, side, np.zeros(30), covariate)
    known = sm.OLS(values[:, 7], np.column_stack([np.ones(30), side, covariate])).fit()
    np.testing.assert_allclose(tests.effects[7], known.params[1], rtol=1e-8)
    np.testing.assert_allclose(
        compare_values(sp.csr_matrix(values), side, np.zeros(30), covariate).p_values, tests.p_values
    )


def test_adjusted_p_values_are_scipys():
    p_values = np.random.default_rng(6).uniform(size=200) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values))
    tested = np.arange(200) % 3 > 0
    adjusted = benjamini_hochberg(p_values, tested)
    np.testing.assert_allclose(adjusted[tested], stats.false_discovery_control(p_values[tested]))
    assert (adjusted[~tested] == 1).all()


def test_shrinkage_is_the_posterior_of_a_normal_prior():
    rng = np.random.default_rng(7)
    true = rng.normal(0, 1, 5000)
    errors = rng.uniform(0.3, 1.5, 5000)
    found = shrink(true + rng.normal(0, errors), errors)
    share = 1 / (1 + errors**2)
    assert found.sd.mean() == pytest.approx((np.sqrt(share) * errors).mean(), rel=0.05)
    assert np.mean((found.mean - true) ** 2) < 1.03 * np.mean(share * errors**2)
    certain = found.s_values < 0.05
    assert certain.any()
    assert (np.sign(found.mean) != np.sign(true))[certain].mean() < 0.07


def test_most_genes_say_where_the_mode_is():
    rng = np.random.default_rng(8)
    effects = rng.normal(0.4, 0.1, 500) + np.where(np.arange(500) < 100, rng.normal(1, 1, 500), 0)
    found = shrink(effects, np.full(500, 0.1), np.ones((500, 1)))
    np.testing.assert_allclose(found.center, 0.4, atol=0.03)


@pytest.mark.parametrize(
    "options",
    [{"n": (5, 5), "level": 1.5}, {"n": (20, 20)}, {"n": (20, 20), "depth": 5.0}, {"n": (15, 120)}],
    ids=["5 and 5", "20 and 20", "five times as deep", "15 and 120"],
)
def test_p_values_are_uniform_where_nothing_differs(options):
    p_values = []
    for seed in range(3):
        counts, side, offsets = two_groups(seed, n_genes=400, **options)
        seen = counts.sum(0) > 20  # sums of a few counts have a few p values only
        p_values.append(compare_counts(counts, side, offsets).p_values[seen])
    p_values = np.concatenate(p_values)
    assert len(p_values) > 600
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert abs((p_values < 0.05).mean() - 0.05) < 0.02


def test_totals_that_some_genes_make_are_taken_out():
    counts, side, _ = two_groups(0, n=(60, 60), changed=40, dispersion=0.1, level=1)
    counts[:60, :40] *= 4  # what is higher in the first group is much of its totals
    offsets = np.log(counts.sum(1) / counts.sum(1).mean())
    tests = compare_counts(counts, side, offsets)
    apart = compare_counts(counts, side, offsets, composition=False)
    assert tests.shifts.max() < -0.2
    assert (tests.p_values[40:] < 0.05).mean() < 0.1
    assert (apart.p_values[40:] < 0.05).mean() > 0.3


def test_what_changes_is_found_and_its_size():
    counts, side, offsets = two_groups(1, n=(40, 40), changed=30)
    tests = compare_counts(counts, side, offsets)
    called = tests.adjusted < 0.05
    assert called[:30].mean() > 0.8
    assert called[30:].sum() <= 4
    np.testing.assert_allclose(np.abs(tests.shrunken[:30][called[:30]]).mean(), np.log(3), rtol=0.15)
    assert np.abs(tests.shrunken[30:]).mean() < 0.5 * np.abs(tests.effects[30:]).mean()
    assert (tests.s_values[called] < 0.1).all()


def test_groups_that_vary_differently():
    """Twenty cells that vary much against two hundred that do not: false positives would be four times the nominal ones."""
    shares = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        side = np.arange(220) < 20
        means = np.tile(np.exp(rng.normal(1, 1, 300)), (220, 1))
        means[side] *= rng.gamma(1.2, 1 / 1.2, (20, 300))
        counts = rng.poisson(means)
        shares.append((compare_counts(counts, side, np.zeros(220)).p_values < 0.05).mean())
    assert np.mean(shares) < 0.1


def test_order_and_names_do_not_matter():
    counts, side, offsets = two_groups(2, n=(12, 15), changed=20)
    covariate = np.random.default_rng(0).normal(size=(27, 1))
    tests = compare_counts(counts, side, offsets, covariate)
    cells, genes = np.random.default_rng(1).permutation(27), np.random.default_rng(2).permutation(300)
    other = compare_counts(sp.csr_matrix(counts)[cells][:, genes], side[cells], offsets[cells], covariate[cells])
    np.testing.assert_allclose(other.scores, tests.scores[genes], atol=1e-5)
    np.testing.assert_allclose(other.shrunken, tests.shrunken[genes], atol=1e-4)
    flipped = compare_counts(counts, ~side, offsets, covariate)
    np.testing.assert_allclose(flipped.scores, -tests.scores, atol=1e-3)
    np.testing.assert_allclose(flipped.p_values, tests.p_values, rtol=1e-2, atol=1e-12)
    scaled, _ = independent_columns(side, 1000 * covariate + 5, ["x"])
    plain, _ = independent_columns(side, covariate, ["x"])
    np.testing.assert_allclose(scaled, plain, atol=1e-9)
    deeper = compare_counts(counts, side, offsets + 3, covariate)
    np.testing.assert_allclose(deeper.scores, tests.scores, atol=1e-3)


def test_genes_without_counts():
    counts, side, offsets = two_groups(3)
    counts[:, 5] = 0
    counts[side, 6] = 0
    tests = compare_counts(counts, side, offsets)
    assert (tests.p_values[5], tests.adjusted[5], tests.scores[5], tests.shrunken[5]) == (1, 1, 0, 0)
    assert all(
        np.isfinite(getattr(tests, name)).all() for name in ("scores", "p_values", "effects", "shrunken", "s_values")
    )
    assert tests.scores[6] < 0
    nothing = compare_counts(np.zeros((6, 4)), np.arange(6) < 3, np.zeros(6))
    assert (nothing.p_values == 1).all()


@pytest.mark.parametrize("n_genes", [1, 2, 4])
def test_few_genes(n_genes):
    counts, side, offsets = two_groups(4, n_genes=n_genes, level=2)
    tests = compare_counts(counts, side, offsets)
    assert np.isfinite(tests.scores).all()
    assert (tests.shifts == 0).all()


def test_samples_are_sums_and_pairs_are_seen():
    rng = np.random.default_rng(9)
    samples, side = rng.integers(-1, 4, 200), rng.integers(0, 2, 200).astype(bool)
    units = Samples.of(samples, side, 2)
    counts = rng.poisson(1.0, (200, 3))
    for unit, (sample, first) in enumerate(zip(units.sample, units.side, strict=True)):
        own = (samples == sample) & (side == first)
        np.testing.assert_array_equal(units.sums(counts).toarray()[unit], counts[own].sum(0))
        assert units.log_sizes(np.zeros(200))[unit] == pytest.approx(np.log(own.sum()))
    assert units.paired().shape == (8, 3)
    assert Samples.of(np.where(side, samples, samples + 10), side, 1).paired().shape[1] == 0


def test_groups_that_covariates_determine_are_refused():
    side = np.array([True, True, False, False, False])
    batches = np.column_stack([side, [1, 0, 1, 0, 1]]).astype(float)
    with pytest.raises(ValueError, match=r"cannot be told from the covariates: \['batch', 'x'\].*covariate_keys"):
        independent_columns(side, batches, ["batch", "x"])
    columns, names = independent_columns(side, np.column_stack([batches[:, 1], batches[:, 1] * 2]), ["x", "twice"])
    assert (columns.shape, names) == ((5, 1), ["x"])
