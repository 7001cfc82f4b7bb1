import numpy as np
import pytest

from scpln.core import _linalg as linalg


def positive_definite(n: int, q: int) -> np.ndarray:
    root = np.random.default_rng(q).standard_normal((n, q + 2, q))
    return np.einsum("nka,nkb->nab", root, root) + np.eye(q)


@pytest.mark.parametrize("q", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("n", [1, 3, 300])
def test_invert(n, q):
    matrices = positive_definite(n, q)
    stacked = matrices.transpose(1, 2, 0).copy()
    log_det = linalg.invert(stacked)
    np.testing.assert_allclose(stacked.transpose(2, 0, 1), np.linalg.inv(matrices), atol=1e-10)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(matrices)[1], atol=1e-9)


def test_invert_marks_matrices_that_are_not_positive_definite():
    stacked = np.stack([np.eye(2), np.diag([1.0, -1.0])], axis=-1)
    log_det = linalg.invert(stacked)
    assert log_det[0] == 0
    assert np.isnan(log_det[1])


def test_pack_and_unpack_are_inverse():
    packed = np.random.default_rng(0).standard_normal((5, 6))
    np.testing.assert_array_equal(linalg.pack(linalg.unpack(packed, 3)), packed)


def test_congruence():
    matrices = positive_definite(4, 3)
    transform = np.random.default_rng(1).standard_normal((3, 3))
    packed = linalg.pack(matrices.transpose(1, 2, 0))
    expected = transform @ matrices @ transform.T
    np.testing.assert_allclose(
        packed @ linalg.congruence(transform), linalg.pack(expected.transpose(1, 2, 0)), atol=1e-10
    )
