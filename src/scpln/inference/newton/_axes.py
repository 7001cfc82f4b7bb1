"""Axes in which Gaussian posteriors are as nearly independent as can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scpln.core import Array

#: Angles tried for each pair of axes, within these ranges in turn, and most sweeps over all pairs for each.
ANGLES, RANGES, MAX_SWEEPS = 16, (np.pi / 4, np.pi / 32, np.pi / 256), 10
#: A pair's rotation that gains less than this, nats per cell, is not made.
TOLERANCE = 1e-6


def independent_axes(precision: Array) -> Array:
    r"""Rotation W (q, q) that costs least when posteriors of precision H_i, (q, q, n), get independent axes z W.

    A mean-field posterior with the rates of a full-rank one has precisions diag(Wᵀ H_i W), and a bound that is lower by
    :math:`½ \sum_i [\sum_k \log (Wᵀ H_i W)_{kk} - \log\det H_i]`. Plane rotations lower the sum pair by pair of axes,
    which is joint approximate diagonalisation [1]_.

    .. [1] Flury and Gautschi (1986), An algorithm for simultaneous orthogonal transformation of several positive definite
       symmetric matrices to nearly diagonal form. SIAM J. Sci. Stat. Comput. 7, 169-184.
    """
    q = len(precision)
    precision, axes = precision.astype(np.float64), np.eye(q)
    for reach in RANGES:
        angles = np.linspace(-reach, reach, ANGLES, endpoint=False)
        for _ in range(MAX_SWEEPS):
            rotated = sum(_rotate(precision, axes, a, b, angles) for a in range(q) for b in range(a))
            if not rotated:
                break
    return axes


def _rotate(precision: Array, axes: Array, a: int, b: int, angles: Array) -> bool:
    """Turn axes a and b by the best of some angles, in place; whether that was worth it."""
    cosines, sines = np.cos(angles), np.sin(angles)
    aa, bb, ab = precision[a, a], precision[b, b], precision[a, b]
    rotated = np.outer(cosines**2, aa) + np.outer(sines**2, bb) + np.outer(2 * sines * cosines, ab)
    product = rotated * (aa + bb - rotated)
    cost = 0.5 * np.log(np.maximum(product, np.finfo(float).tiny)).mean(1)
    best = int(cost.argmin())
    if cost[best] > cost[ANGLES // 2] - TOLERANCE:
        return False
    plane = np.array([[cosines[best], -sines[best]], [sines[best], cosines[best]]])
    axes[:, [a, b]] = axes[:, [a, b]] @ plane
    precision[[a, b]] = np.einsum("ca,cdn->adn", plane, precision[[a, b]])
    precision[:, [a, b]] = np.einsum("acn,cb->abn", precision[:, [a, b]], plane)
    return True
