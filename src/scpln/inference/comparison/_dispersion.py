"""Dispersion that genes of about the same mean have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq

from ._glm import LEAST_DISPERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Largest dispersion that is sought.
_MOST_DISPERSION = 1e3


def common_dispersion(counts: Array, means: Array, leverages: Array) -> float:
    r"""The α at which Pearson's statistic of all counts (n × p) is what is expected of it.

    .. math:: \sum_{ij} \frac{(y_{ij} - \mu_{ij})^2}{\mu_{ij} + \alpha \mu_{ij}^2}
        = \sum_{ij} \frac{1 - h_{ij}}{1 + \alpha c_{ij} h_{ij} / (1 - h_{ij})}, \quad
        c_{ij} = \frac{\mu_{ij}^2}{\mu_{ij}^2 + h_{ij}^2}

    The fitted mean takes a share h of each squared residual, and is large where the residual is: to the second order, that
    leaves :math:`1 - h - \alpha h`. Without it the dispersion of a few cells comes out a quarter too small. The expansion holds
    where a mean is of several counts, :math:`\mu \gg h`.
    """
    squares = (counts - means) ** 2
    free = 1 - leverages
    cost = means**2 / (means**2 + leverages**2) * leverages / free

    def excess(alpha: float) -> float:
        return float((squares / (means + alpha * means**2) - free / (1 + alpha * cost)).sum())

    if excess(LEAST_DISPERSION) <= 0:
        return LEAST_DISPERSION
    if excess(_MOST_DISPERSION) >= 0:
        return _MOST_DISPERSION
    found = brentq(lambda log: excess(np.exp(log)), np.log(LEAST_DISPERSION), np.log(_MOST_DISPERSION), xtol=1e-5)
    return float(np.exp(found))
