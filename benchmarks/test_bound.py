"""Check the judge: `pytest benchmarks/test_bound.py` (not part of the package's test run)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from bound import bound_per_cell, covariance_matrices
from scipy import stats
from scipy.special import logsumexp

N, P, Q, D = 7, 5, 3, 2


@pytest.fixture
def problem() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    half = rng.normal(0, 0.3, (N, Q, Q))
    design = np.column_stack([np.ones(N), rng.integers(0, 2, N)])
    return {
        "counts": rng.poisson(1.5, (N, P)),
        "offsets": rng.normal(0, 0.3, N),
        "design": design,
        "coefficients": rng.normal(0, 0.5, (P, D)),
        "loadings": rng.normal(0, 0.5, (P, Q)),
        "mean": rng.normal(0, 0.5, (N, Q)),
        "variance": half @ half.transpose(0, 2, 1) + 0.2 * np.eye(Q),
    }


def judge(problem: dict[str, np.ndarray], **kwargs: int) -> np.ndarray:
    return bound_per_cell(**{**problem, "counts": sp.csr_matrix(problem["counts"])}, **kwargs)


def test_equals_the_naive_sum(problem: dict[str, np.ndarray]) -> None:
    y, o, x, b, c, m, v = problem.values()
    expected = np.zeros(N)
    for i in range(N):
        for j in range(P):
            eta, spread = o[i], 0.0
            for k in range(D):
                eta += x[i, k] * b[j, k]
            for k in range(Q):
                eta += m[i, k] * c[j, k]
                for h in range(Q):
                    spread += c[j, k] * v[i, k, h] * c[j, h]
            expected[i] += y[i, j] * eta - math.exp(eta + spread / 2) - math.log(math.factorial(y[i, j]))
        det = np.prod(np.linalg.eigvalsh(v[i]))
        expected[i] -= 0.5 * (sum(m[i] ** 2) + sum(v[i, k, k] for k in range(Q)) - math.log(det) - Q)
    np.testing.assert_allclose(judge(problem), expected, rtol=1e-12)


def test_equals_monte_carlo_with_scipy_densities(problem: dict[str, np.ndarray]) -> None:
    y, o, x, b, c, m, v = problem.values()
    bound = judge(problem)
    rng = np.random.default_rng(1)
    for i in range(N):
        q = stats.multivariate_normal(m[i], v[i])
        z = q.rvs(100_000, random_state=rng)
        log_p = stats.poisson.logpmf(y[i], np.exp(o[i] + x[i] @ b.T + z @ c.T)).sum(1)
        weight = log_p + stats.multivariate_normal(np.zeros(Q)).logpdf(z) - q.logpdf(z)
        assert abs(weight.mean() - bound[i]) < 5 * weight.std() / math.sqrt(len(z))
        assert bound[i] < logsumexp(weight) - math.log(len(z))


@pytest.mark.parametrize("block", [1, 3, N, 100])
def test_block_size_does_not_matter(problem: dict[str, np.ndarray], block: int) -> None:
    np.testing.assert_allclose(judge(problem, block=block), judge(problem), rtol=1e-13)


def test_packed_and_diagonal_variances(problem: dict[str, np.ndarray]) -> None:
    row, column = np.tril_indices(Q)
    packed = problem["variance"][:, row, column]
    np.testing.assert_array_equal(covariance_matrices(packed, Q), problem["variance"])
    diagonal = problem["variance"][:, range(Q), range(Q)]
    full = judge({**problem, "variance": diagonal[:, :, None] * np.eye(Q)})
    np.testing.assert_allclose(judge({**problem, "variance": diagonal}), full, rtol=1e-13)


def test_rotation_leaves_the_bound(problem: dict[str, np.ndarray]) -> None:
    r = stats.ortho_group.rvs(Q, random_state=2)
    turned = {
        **problem,
        "loadings": problem["loadings"] @ r,
        "mean": problem["mean"] @ r,
        "variance": r.T @ problem["variance"] @ r,
    }
    np.testing.assert_allclose(judge(turned), judge(problem), rtol=1e-12)
