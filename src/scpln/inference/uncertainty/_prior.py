"""The precision of what genes have in common, at the end of a fit that learned it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.newton import GeneParameters

#: Rounds in which a variance of coefficients is found, and the least of coefficients and of loadings.
ROUNDS, LEAST_COEFFICIENT_VARIANCE, LEAST_LOADING_VARIANCE = 50, 1e-4, 1e-8


def gene_precision(genes: GeneParameters, information: Array, codes: NDArray[np.intp]) -> Array:
    r"""Inverse prior covariance of every gene's coefficients and loadings, (k, k, p): 0 where these were not learned.

    A prior that was learned (`GenePrior`) is at its fixed point, :math:`\Omega = \frac1p \sum_j C_j C_j^T + S_j` over the genes of a group and
    :math:`\sigma_a^2 = \frac1p \sum_j (B_{ja} - \bar b_a)^2 + (h_{ja} + \sigma_a^{-2})^{-1}` with the `information` h (p, d), so that it follows from
    what is kept of a fit.
    """
    d, q = genes.coefficients.shape[1], genes.loadings.shape[1]
    precision = np.zeros((d + q, d + q, len(codes)))
    if genes.spread is None:
        return precision
    for group in np.unique(codes):
        chosen = codes == group
        c = genes.loadings[chosen]
        spread = linalg.unpack(genes.spread[chosen].astype(np.float64), q).mean(2)
        covariance = c.T @ c / len(c) + spread + LEAST_LOADING_VARIANCE * np.eye(q)
        precision[d:, d:, chosen] = np.linalg.inv(covariance)[:, :, None]
        for a in range(1, d):
            precision[a, a, chosen] = 1 / _variance(genes.coefficients[chosen, a], information[chosen, a])
    return precision


def _variance(values: Array, information: Array) -> float:
    """The variance at its fixed point."""
    squares = float(values.var())
    variance = max(squares, LEAST_COEFFICIENT_VARIANCE)
    for _ in range(ROUNDS):
        variance = max(squares + float((1 / (information + 1 / variance)).mean()), LEAST_COEFFICIENT_VARIANCE)
    return variance
