"""The bound of DESIGN.md §4 in float64, written apart from every package that is measured, to judge all of them alike."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.special import gammaln


def bound_per_cell(
    counts: sp.csr_matrix,
    offsets: np.ndarray,
    design: np.ndarray,
    coefficients: np.ndarray,
    loadings: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    *,
    block: int = 200,
) -> np.ndarray:
    """Evidence lower bound of every cell, in nats, with the full log-factorial.

    For q(z_i) = N(m_i, V_i), prior N(0, I_q) and y_ij ~ Poisson(exp(o_i + x_i·B_j + z_i·C_j)),

        ELBO_i = Σ_j [ y_ij (o_i + x_i·B_j + m_i·C_j) − A_ij − log y_ij! ] − ½ [ ‖m_i‖² + tr V_i − log det V_i − q ]
        A_ij   = exp(o_i + x_i·B_j + m_i·C_j + ½ C_jᵀ V_i C_j)

    Parameters
    ----------
    counts
        Y (n × p), sparse.
    offsets
        o (n,), log size factors.
    design
        X (n × d), the intercept's column included.
    coefficients
        B (p × d).
    loadings
        C (p × q).
    mean
        m (n × q).
    variance
        V as (n × q) variances, (n × q(q+1)/2) lower triangles packed row by row, or (n × q × q) matrices.
    block
        Cells at a time.

    Returns
    -------
    numpy.ndarray
        (n,) float64.

    Examples
    --------
    At B = C = 0 and q(z) = N(0, 1), one zero count costs its expected rate, exp(0) = 1:

    >>> zero, one = np.zeros((1, 1)), np.ones((1, 1))
    >>> bound_per_cell(sp.csr_matrix(zero), zero[0], one, zero, zero, zero, one)
    array([-1.])
    """
    y = sp.csr_matrix(counts)
    o, x, b, c, m, v = (
        np.asarray(a, dtype=np.float64) for a in (offsets, design, coefficients, loadings, mean, variance)
    )
    parts = (slice(i, i + block) for i in range(0, y.shape[0], block))
    return np.concatenate([_block(y[s], o[s], x[s], b, c, m[s], covariance_matrices(v[s], m.shape[1])) for s in parts])


def covariance_matrices(variance: np.ndarray, q: int) -> np.ndarray:
    """V (n × q × q) from any of the three forms that `bound_per_cell` takes."""
    n = len(variance)
    matrices = np.zeros((n, q, q))
    if variance.shape == (n, q, q):
        matrices[:] = variance
    elif variance.shape == (n, q):  # at q = 1 both packed forms are this one
        matrices[:, np.arange(q), np.arange(q)] = variance
    elif variance.shape == (n, q * (q + 1) // 2):
        row, column = np.tril_indices(q)
        matrices[:, row, column] = variance
        matrices[:, column, row] = variance
    else:
        msg = f"variance has shape {variance.shape}; expected {(n, q)}, {(n, q * (q + 1) // 2)} or {(n, q, q)}."
        raise ValueError(msg)
    return matrices


def _block(
    y: sp.csr_matrix, o: np.ndarray, x: np.ndarray, b: np.ndarray, c: np.ndarray, m: np.ndarray, v: np.ndarray
) -> np.ndarray:
    n, q = m.shape
    pairs = (c[:, :, None] * c[:, None, :]).reshape(len(c), q * q)
    log_rate = o[:, None] + x @ b.T + m @ c.T
    expected = np.exp(log_rate + 0.5 * v.reshape(n, q * q) @ pairs.T).sum(1)
    log_factorial = sp.csr_matrix((gammaln(y.data + 1.0), y.indices, y.indptr), shape=y.shape).sum(1)
    data_term = (y.toarray() * log_rate).sum(1) - expected - np.asarray(log_factorial).ravel()
    sign, log_det = np.linalg.slogdet(v)
    if not (sign > 0).all():
        msg = f"V is not positive definite in {int((sign <= 0).sum())} cells of a block of {n}."
        raise ValueError(msg)
    trace = np.trace(v, axis1=1, axis2=2)
    return data_term - 0.5 * ((m**2).sum(1) + trace - log_det - q)
