"""A tight bound of the expected log-sum-exp of a Gaussian vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scpln.core import Array

#: Newton steps for the tilt, and how far it may be from its fixed point.
STEPS, TOLERANCE = 12, 1e-11
#: A step is halved at most so often.
HALVINGS = 6


class Tilted(NamedTuple):
    """The bound, (m,), its slope p by the means, the variances of z_k − aᵀz, and the tilt a, (m, K) each."""

    value: Array
    shares: Array
    variance: Array
    tilt: Array


def tilted_log_sum_exp(mean: Array, covariance: Array, tilt: Array) -> Tilted:
    r"""Bound :math:`E \log\sum_k e^{z_k}` of :math:`z \sim N(\mu, V)` from above [1]_, with any covariance.

    For any a with sum 1, :math:`\log\sum_k e^{z_k} = a^T z + \log\sum_k e^{z_k - a^T z}`, and Jensen's inequality gives

    .. math:: b(a) = \tfrac12 a^T V a + \log\sum_k \exp(\mu_k + \tfrac12 V_{kk} - (Va)_k).

    It is convex in a and least where :math:`a_k = p_k \propto \exp(\mu_k + \tfrac12 V_{kk} - (Va)_k)`, which Newton's method finds. Its slope by μ is
    p; that by V is :math:`\tfrac12 \sum_k p_k (e_k - a)(e_k - a)^T`, half the Hessian :math:`\text{diag}(p) - p p^T` of log-sum-exp at a = p.

    Parameters
    ----------
    mean, covariance
        μ, (m, K), and V, (m, K, K).
    tilt
        Where the search of a starts, (m, K).

    References
    ----------
    .. [1] Knowles and Minka (2011), Non-conjugate variational message passing for multinomial and binary regression. NeurIPS.

    Examples
    --------
    >>> tilted_log_sum_exp(np.zeros((1, 2)), np.eye(2)[None], np.full((1, 2), 0.5)).value.round(
    ...     4
    ... )  # 0.9227 by quadrature, and 1.1931 by Jensen's
    array([0.9431])
    """
    start = mean + 0.5 * np.einsum("mkk->mk", covariance)
    tilt = tilt.copy()
    value, shares = _evaluate(start, covariance, tilt)
    active = np.arange(len(mean))
    for _ in range(STEPS):
        apart = shares[active] - tilt[active]
        active = active[np.abs(apart).max(1, initial=0) > TOLERANCE]
        if not len(active):
            break
        step = _newton(covariance[active], shares[active], shares[active] - tilt[active])
        _move(start, covariance, tilt, value, shares, active, step)
    moved = (covariance @ tilt[:, :, None])[..., 0]
    variance = 2 * (start - mean) - 2 * moved + np.einsum("mk,mk->m", tilt, moved)[:, None]
    return Tilted(value, shares, np.maximum(variance, 0), tilt)


def _newton(covariance: Array, shares: Array, apart: Array) -> Array:
    """(I + (diag p − ppᵀ) V)⁻¹ (p − a)."""
    slope = shares[:, :, None] * (covariance - shares[:, None, :] @ covariance)
    return np.asarray(np.linalg.solve(np.eye(shares.shape[1]) + slope, apart[..., None]))[..., 0]


def _move(start: Array, covariance: Array, tilt: Array, value: Array, shares: Array, rows: Array, step: Array) -> None:
    """Take steps that do not raise the bound, halved where they do."""
    for _ in range(HALVINGS):
        proposal = tilt[rows] + step
        found, there = _evaluate(start[rows], covariance[rows], proposal)
        better = found <= value[rows] + 1e-14 * np.abs(value[rows])
        kept = rows[better]
        tilt[kept], value[kept], shares[kept] = proposal[better], found[better], there[better]
        rows, step = rows[~better], 0.5 * step[~better]
        if not len(rows):
            return


def _evaluate(start: Array, covariance: Array, tilt: Array) -> tuple[Array, Array]:
    """b(a) and p."""
    moved = (covariance @ tilt[:, :, None])[..., 0]
    logits = start - moved
    top = logits.max(1, keepdims=True)
    weights = np.exp(logits - top)
    total = weights.sum(1)
    value = 0.5 * np.einsum("mk,mk->m", tilt, moved) + top[:, 0] + np.log(total)
    return value, weights / total[:, None]
