"""Differences of log-gamma functions that do not lose their digits where arguments are large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, psi

if TYPE_CHECKING:
    from ._arrays import Array

#: Arguments above which Stirling's series, to terms of the third order, is exact to rounding.
LARGE = 1e4


def log_rising(a: Array, n: Array) -> Array:
    r"""Logarithms of rising factorials, :math:`\log Γ(a + n) - \log Γ(a)`, for a > 0 and n ≥ 0.

    Above 10⁴ by Stirling's series: the difference of two log-gamma functions of 10¹⁶ has no digit that is right.

    Examples
    --------
    >>> log_rising(np.array([3.0, 1e16]), np.array([2.0, 2.0])).round(6)  # log(3 · 4), 2 log 10¹⁶
    array([ 2.484907, 73.682723])
    """
    a, n = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(n, np.float64))
    is_large = a > LARGE
    if not is_large.any():
        return np.asarray(gammaln(a + n) - gammaln(a))
    small, large = np.where(is_large, 1.0, a), np.where(is_large, a, LARGE)
    end = large + n
    series = (large - 0.5) * np.log1p(n / large) + n * np.log(end) - n
    series = series + (1 / end - 1 / large) / 12 - (end**-3 - large**-3) / 360
    return np.where(is_large, series, gammaln(small + n) - gammaln(small))


def digamma_rising(a: Array, n: Array) -> Array:
    r"""Their slopes by a, :math:`ψ(a + n) - ψ(a)`.

    Examples
    --------
    >>> digamma_rising(np.array([3.0, 1e16]), np.array([2.0, 2.0]))  # 1/3 + 1/4, 2 / 10¹⁶
    array([5.83333333e-01, 2.00000000e-16])
    """
    a, n = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(n, np.float64))
    is_large = a > LARGE
    if not is_large.any():
        return np.asarray(psi(a + n) - psi(a))
    small, large = np.where(is_large, 1.0, a), np.where(is_large, a, LARGE)
    end = large + n
    series = np.log1p(n / large) + n / large / end * (0.5 + (1 / large + 1 / end) / 12)
    return np.where(is_large, series, psi(small + n) - psi(small))
