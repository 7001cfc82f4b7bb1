"""Axes along which groups differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Standard deviation between groups along an axis that does not count as one, as a share of the largest.
LEAST_SHARE = 1e-8


def discriminant_axes(
    weights: NDArray[np.float64], means: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Axes (p, r) of groups with these weights (G,) and means (G, p), and a covariance whose Cholesky factor is `scale` (p, p).

    Examples
    --------
    >>> discriminant_axes(np.array([0.5, 0.5]), np.array([[0.0, 0.0], [3.0, 0.0]]), np.diag([2.0, 1.0]))
    array([[0.5],
           [0. ]])
    """
    away = means - weights @ means
    white = solve_triangular(scale, away.T, lower=True).T
    _, sizes, vectors = np.linalg.svd(np.sqrt(weights)[:, None] * white, full_matrices=False)
    kept = vectors[: len(weights) - 1][sizes[: len(weights) - 1] > LEAST_SHARE * sizes[0]]
    axes = solve_triangular(scale.T, kept.T, lower=False)
    heavy = np.abs(axes * np.sqrt(np.square(scale).sum(1))[:, None]).argmax(0)
    signs = np.sign(axes[heavy, np.arange(axes.shape[1])])
    result: NDArray[np.float64] = axes * signs
    return result
