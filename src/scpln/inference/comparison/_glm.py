"""Negative-binomial regression of many genes on one design, by Fisher scoring of all genes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Least dispersion, at which the distribution is Poisson in every digit that matters.
LEAST_DISPERSION = 1e-6
#: Most steps, the size below which they end, and the longest of one, in natural logarithms.
_STEPS, _SMALL, _LONG = 50, 1e-6, 2.0
#: Log-rates are bounded here, far beyond those of any count.
_LARGEST = 30.0


@dataclass(frozen=True)
class Regression:
    """A fitted regression: coefficients, means, and what their errors are made of.

    Parameters
    ----------
    coefficients
        B (p × d), natural logarithms.
    means
        μ (n × p).
    weights
        Working weights μ / (1 + α μ), (n × p).
    inverse
        Inverse of the penalised information (p × d × d).
    leverages
        Diagonal of the hat matrix (n × p), within 0 and 1.
    """

    coefficients: Array
    means: Array
    weights: Array
    inverse: Array
    leverages: Array


def fit_regression(
    counts: Array, design: Array, offsets: Array, dispersion: Array | float, penalty: Array, start: Array | None = None
) -> Regression:
    r"""Maximise the penalised likelihood of :math:`y_{ij} \sim \mathrm{NB}(e^{o_i + x_i \cdot B_j}, \alpha_j)`.

    Parameters
    ----------
    counts
        Y (n × p).
    design
        X (n × d), its first column the intercept.
    offsets
        Log size factors o (n,), or what is known of each gene's log-rates (n × p).
    dispersion
        α (p,), the variance being μ + α μ².
    penalty
        Precision of a normal prior around 0 of each coefficient (d,); it holds those back that have no finite maximum,
        where a group has no counts at all.
    start
        Coefficients to begin at.
    """
    n_genes, d = counts.shape[1], design.shape[1]
    rows, columns = np.tril_indices(d)
    products = design[:, rows] * design[:, columns]
    alpha = np.maximum(np.broadcast_to(dispersion, n_genes), LEAST_DISPERSION)
    if start is None:
        beta = np.zeros((n_genes, d))
        beta[:, 0] = np.log((counts.sum(0) + 0.1) / np.exp(offsets).sum(0))
    else:
        beta = start.copy()
    for _ in range(_STEPS):
        means = _means(beta, design, offsets)
        information = _information(means, alpha, products, penalty)
        slope = ((counts - means) / (1 + alpha * means)).T @ design - penalty * beta
        step = np.clip(np.linalg.solve(information, slope[:, :, None])[:, :, 0], -_LONG, _LONG)
        beta += step
        if np.abs(step).max(initial=0.0) < _SMALL:
            break
    means = _means(beta, design, offsets)
    inverse = np.linalg.inv(_information(means, alpha, products, penalty))
    weights = means / (1 + alpha * means)
    doubled = np.where(rows == columns, 1.0, 2.0)
    leverages = weights * (products @ (doubled * inverse[:, rows, columns]).T)
    return Regression(beta, means, weights, inverse.astype(np.float64), np.clip(leverages, 0.0, 1 - 1e-6))


def deviances(counts: Array, means: Array, dispersion: Array | float) -> Array:
    """Twice the log-likelihood that each count lacks (n × p), by its mean and its gene's dispersion.

    Examples
    --------
    >>> deviances(np.array([[0.0, 2.0]]), np.array([[1.0, 2.0]]), 0.0).round(4)
    array([[2., 0.]])
    """
    alpha = np.maximum(dispersion, LEAST_DISPERSION)
    means = np.maximum(means, 1e-300)
    tail = (counts + 1 / alpha) * np.log1p(alpha * (counts - means) / (1 + alpha * means))
    return np.maximum(2 * (xlogy(counts, counts / means) - tail), 0.0)


def _means(beta: Array, design: Array, offsets: Array) -> Array:
    return np.exp(np.clip((offsets if offsets.ndim == 2 else offsets[:, None]) + design @ beta.T, -_LARGEST, _LARGEST))


def _information(means: Array, alpha: Array, products: Array, penalty: Array) -> Array:
    """Penalised expected information of each gene (p × d × d)."""
    d = len(penalty)
    rows, columns = np.tril_indices(d)
    information = np.empty((means.shape[1], d, d))
    information[:, rows, columns] = information[:, columns, rows] = (means / (1 + alpha * means)).T @ products
    information[:, range(d), range(d)] += penalty + 1e-8
    return information
