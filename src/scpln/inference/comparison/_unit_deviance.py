"""Mean and variance of the deviance of one count: far from 1 and 2 where counts are few."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import nbinom

from ._glm import deviances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Log means of the table.
_LOG_MEANS = np.arange(-10.0, 10.01, 0.25)
#: Logarithms of dispersions are multiples of this.
_STEP = 0.7
_RANGE = (-7.0, 7.0)
#: Counts up to this are summed one by one, and so many above.
_EXACT, _MORE = 400, 1500


def deviance_moments(means: Array, dispersion: float) -> tuple[Array, Array]:
    """Mean and variance of unit deviances at given means, of any shape, by interpolation of exact sums.

    Examples
    --------
    >>> mean, variance = deviance_moments(np.array([0.01, 1000.0]), 1e-6)
    >>> mean.round(2), variance.round(2)
    (array([0.09, 1.  ]), array([0.52, 2.  ]))
    """
    place = np.clip(np.log(max(dispersion, 1e-12)), *_RANGE) / _STEP
    lower = int(np.floor(place))
    share = place - lower
    x = np.log(np.maximum(means, 1e-300))
    first, second = _table(lower), _table(lower + 1)
    mean, variance = ((1 - share) * first[i] + share * second[i] for i in range(2))
    return np.interp(x, _LOG_MEANS, mean), np.interp(x, _LOG_MEANS, variance)


@lru_cache(maxsize=64)
def _table(number: int) -> tuple[Array, Array]:
    """Means and variances at the means of the table, for the dispersion of a number."""
    alpha = float(np.exp(number * _STEP))
    moments = []
    for mean in np.exp(_LOG_MEANS):
        spread = np.sqrt(mean + alpha * mean**2)
        y, weight = _points(mean + 12 * spread + 30 * alpha * mean + 20)
        mass = nbinom.pmf(y, 1 / alpha, 1 / (1 + alpha * mean)) * weight
        mass /= mass.sum()
        unit = deviances(y[:, None].astype(float), np.array([[mean]]), alpha)[:, 0]
        first = mass @ unit
        moments.append((first, mass @ (unit - first) ** 2))
    result = np.array(moments).T
    return result[0], result[1]


def _points(largest: float) -> tuple[NDArray[np.int64], Array]:
    """Counts up to the largest that matters, and how many each stands for."""
    if largest <= _EXACT:
        y = np.arange(int(largest) + 1)
        return y, np.ones(len(y))
    above = np.geomspace(_EXACT, largest, _MORE).astype(np.int64)
    y = np.unique(np.concatenate([np.arange(_EXACT), above]))
    return y, np.gradient(y.astype(float))
