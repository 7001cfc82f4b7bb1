"""The chain of levels: against regressions, finite differences, and any covariance."""

import numpy as np
import pytest

from scpln.module.covariances import Chain, Full

SIZES = [2, 1, 2]


def moment(seed=0, p=5):
    rows = np.random.default_rng(seed).standard_normal((40, p)) @ np.random.default_rng(seed + 1).standard_normal(
        (p, p)
    )
    return rows.T @ rows / 40


def chain(seed=0):
    result = Chain(SIZES)
    result.update(moment(seed))
    return result


def test_levels_are_regressed_on_the_one_before():
    s, found = moment(), chain()
    np.testing.assert_allclose(found.transitions[0], s[2:3, :2] @ np.linalg.inv(s[:2, :2]))
    np.testing.assert_allclose(found.transitions[1], s[3:, 2:3] / s[2, 2])
    np.testing.assert_allclose(found.conditional_covariances[2], s[3:, 3:] - s[3:, 2:3] @ s[2:3, 3:] / s[2, 2])
    np.testing.assert_allclose(
        found.precision[:2, 3:], 0, atol=1e-10
    )  # given the second, the first says nothing of the third
    for kept in (slice(0, 3), slice(2, 5)):
        np.testing.assert_allclose(found.dense[kept, kept], s[kept, kept])
    assert found.n_parameters == 3 + 1 + 3 + 2 + 2


def test_an_update_is_the_best_chain():
    found, s = chain(), moment()
    best = found.log_likelihood(s)
    for seed in range(20):
        found.update(s + 0.3 * moment(10 + seed))
        assert found.log_likelihood(s) <= best + 1e-9
    assert found.log_det == pytest.approx(np.linalg.slogdet(found.dense)[1])


@pytest.mark.parametrize("sizes", [[5], [2, 3]])
def test_up_to_two_levels_are_any_covariance(sizes):
    one, other = Chain(sizes), Full(5)
    one.update(moment())
    other.update(moment())
    np.testing.assert_allclose(one.dense, other.dense, atol=1e-10)
    assert one.n_parameters == other.n_parameters


def test_slopes_by_coordinates_are_those_of_finite_differences():
    found, gradient = chain(), moment(5) - np.eye(5)
    point, expected = found.coordinates, []
    for direction in np.eye(len(point)):
        values = []
        for side in (-1, 1):
            found.move(point + 1e-5 * side * direction)
            values.append(0.5 * (gradient * found.dense).sum())
        expected.append((values[1] - values[0]) / 2e-5)
    found.move(point)
    np.testing.assert_allclose(found.slope(gradient), expected, rtol=1e-5, atol=1e-6)


def test_metrics_are_symmetric_and_positive():
    found = chain()
    matrix = np.array([found.precondition(each, moment(7)) for each in np.eye(len(found.coordinates))])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    assert (np.linalg.eigvalsh(matrix) > 0).all()


def test_what_is_restored_is_the_same():
    found, other = chain(), Chain(SIZES)
    other.restore(found.state)
    np.testing.assert_allclose(other.dense, found.dense, atol=1e-12)
    for one, two in zip(found.transitions, other.transitions, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-10)
    with pytest.raises(ValueError, match="no chain of levels fits it"):
        found.update(np.zeros((5, 5)))
