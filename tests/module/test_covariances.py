"""Properties that all covariances have."""

import numpy as np
import pytest
import scipy.stats as st

from scpln.module.covariances import COVARIANCES, Factor, Kernel

P = 4


def random_moment(seed):
    residuals = np.random.default_rng(seed).normal(size=(30, P)) @ np.random.default_rng(seed + 1).normal(size=(P, P))
    return residuals.T @ residuals / 30


@pytest.fixture(params=COVARIANCES)
def covariance(request):
    return COVARIANCES[request.param](P)


def test_it_starts_as_the_identity(covariance):
    np.testing.assert_array_equal(covariance.dense, np.eye(P))


def test_precision_and_determinant_are_those_of_the_matrix(covariance):
    covariance.update(random_moment(0))
    np.testing.assert_allclose(covariance.precision @ covariance.dense, np.eye(P), atol=1e-10)
    assert covariance.log_det == pytest.approx(np.linalg.slogdet(covariance.dense)[1])
    assert (np.linalg.eigvalsh(covariance.dense) > 0).all()


def test_its_likelihood_is_that_of_scipy(covariance):
    random = np.random.default_rng(3)
    residuals = random.normal(size=(50, P))
    covariance.update(random_moment(2))
    expected = st.multivariate_normal(np.zeros(P), covariance.dense).logpdf(residuals).mean()
    assert covariance.log_likelihood(residuals.T @ residuals / 50) == pytest.approx(expected)


def test_an_update_is_the_best_of_its_family(covariance):
    """No other moment leads to a member of the family under which this one is more probable."""
    moment = random_moment(4)
    covariance.update(moment)
    best = covariance.log_likelihood(moment)
    for seed in range(20):
        covariance.update(moment + 0.3 * random_moment(10 + seed))
        assert covariance.log_likelihood(moment) <= best + 1e-9


def test_an_update_at_its_own_optimum_changes_nothing(covariance):
    covariance.update(random_moment(5))
    before = covariance.dense
    covariance.update(before)
    by_iterations = isinstance(covariance, Factor)  # which end where they gain too little
    np.testing.assert_allclose(covariance.dense, before, rtol=1e-6 if by_iterations else 1e-10)


def test_coordinates_lead_back(covariance):
    covariance.update(random_moment(9))
    before = covariance.dense
    covariance.move(covariance.coordinates)
    np.testing.assert_allclose(covariance.dense, before, atol=1e-8)


def test_slopes_by_coordinates_are_those_of_finite_differences(covariance):
    covariance.update(random_moment(9))
    point, gradient = covariance.coordinates.copy(), random_moment(10) - np.eye(P)
    expected = []
    for direction in np.eye(len(point)):
        values = []
        for side in (-1, 1):
            covariance.move(point + 1e-5 * side * direction)
            values.append(0.5 * (gradient * covariance.dense).sum())
        expected.append((values[1] - values[0]) / 2e-5)
    covariance.move(point)
    np.testing.assert_allclose(covariance.slope(gradient), expected, rtol=1e-5, atol=1e-7)


def test_metrics_are_symmetric_and_positive(covariance):
    size, spread = len(covariance.coordinates), random_moment(11)
    matrix = np.array([covariance.precondition(direction, spread) for direction in np.eye(size)]).reshape(size, size)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert (np.linalg.eigvalsh(matrix) > 0).all()


def test_no_coordinates_lead_to_a_singular_covariance(covariance):
    covariance.move(np.zeros(len(covariance.coordinates)))
    assert (np.linalg.eigvalsh(covariance.dense) > 0).all()
    np.testing.assert_allclose(covariance.precision @ covariance.dense, np.eye(P), atol=1e-6)
    assert np.isfinite(covariance.log_det)


def test_genes_may_come_in_any_order(covariance):
    moment, order = random_moment(6), np.array([2, 0, 3, 1])
    covariance.update(moment)
    expected = covariance.dense[np.ix_(order, order)]
    covariance.update(moment[np.ix_(order, order)])
    searched = 1e-6 if isinstance(covariance, Factor) else 1e-10  # of uniquenesses that vanish, rounding is that much
    np.testing.assert_allclose(covariance.dense, expected, rtol=searched)


def test_what_is_restored_is_the_same(covariance):
    covariance.update(random_moment(7))
    other = type(covariance)(P)
    other.restore(covariance.state)
    np.testing.assert_array_equal(other.dense, covariance.dense)


def test_larger_families_fit_better():
    moment = random_moment(8)
    values = []
    for name in ("spherical", "diagonal", "full"):
        covariance = COVARIANCES[name](P)
        covariance.update(moment)
        values.append((covariance.n_parameters, covariance.log_likelihood(moment)))
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        (np.eye(3), "has shape"),
        (np.full((P, P), np.nan), "finite and symmetric"),
        (np.triu(np.ones((P, P))), "finite and symmetric"),
    ],
)
def test_what_is_no_moment_is_refused(covariance, moment, message):
    with pytest.raises(ValueError, match=message):
        covariance.update(moment)


@pytest.mark.parametrize(
    ("name", "message"), [("full", "too few cells"), ("diagonal", r"genes \[1\]"), ("spherical", "no variance")]
)
def test_no_variance_is_refused(name, message):
    moment = np.diag([1.0, 0.0, 1.0, 1.0]) if name != "spherical" else np.zeros((P, P))
    with pytest.raises(ValueError, match=message):
        COVARIANCES[name](P).update(moment)
    with pytest.raises(ValueError, match="one gene or more"):
        COVARIANCES[name](0)


def relatedness(p):
    return np.exp(-np.abs(np.subtract.outer(np.arange(p), np.arange(p))) / 2)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_kernel_finds_variance_and_share(share):
    covariance = Kernel(P, relatedness(P))
    covariance.update(1.7 * (share * relatedness(P) + (1 - share) * np.eye(P)))
    assert covariance.variance == pytest.approx(1.7, rel=1e-6)
    assert covariance.share == pytest.approx(share, abs=1e-5)


def test_a_kernel_is_the_best_of_a_grid():
    moment, covariance = random_moment(12), Kernel(P, relatedness(P))
    covariance.update(moment)
    best, variance = covariance.log_likelihood(moment), covariance.variance
    values = []
    for related in np.linspace(0, 2, 31) * variance:
        for independent in np.linspace(0.05, 2, 40) * variance:
            covariance.move(np.sqrt([related, independent]))
            values.append(covariance.log_likelihood(moment))
    assert max(values) <= best + 1e-9
    assert max(values) == pytest.approx(best, abs=0.02)


def test_a_kernel_may_be_singular():
    """Genes that are the same for the kernel differ by what is independent."""
    covariance = Kernel(P, np.ones((P, P)))
    covariance.update(random_moment(13))
    assert (np.linalg.eigvalsh(covariance.dense) > 0).all()
    covariance.move(np.array([1.0, 0.0]))
    np.testing.assert_allclose(covariance.dense, np.ones((P, P)), atol=1e-9)
    with pytest.raises(ValueError, match="must be positive semidefinite"):
        Kernel(2, np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match=r"kernel has shape \(2, 2\)"):
        Kernel(3, np.eye(2))


def test_a_restored_kernel_has_its_kernel():
    covariance, other = Kernel(P, relatedness(P)), Kernel(P)
    covariance.update(random_moment(14))
    other.restore(covariance.state)
    np.testing.assert_array_equal(other.dense, covariance.dense)
    np.testing.assert_array_equal(other.precision, covariance.precision)
