"""Acceleration of the alternation: a quasi-Newton step in the space of its last moves."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scpln.core import Array

    from ._genes import GeneModel

#: Directions that move together in past iterations up to this relative size are the same.
INDEPENDENCE = 1e-6
#: Most that a direction is lengthened beyond the plain step.
MAX_FACTOR = 10.0
#: Largest root-mean-square change of a gene's log-rates, beyond the plain step.
TRUST_RADIUS = 0.5


class SecantAcceleration:
    """Lengthen the alternation's step along directions in which it is slow.

    The alternation θ → g(θ) is gradient ascent, preconditioned by the genes' curvature H: near a stationary point its
    step f(θ) = g(θ) − θ changes as Δf ≈ J Δθ, where J is symmetric in the inner product of H. In the space of the last moves J
    is known from differences. Its eigenvalues μ there (Rayleigh–Ritz) say how slow each direction is, and the step along
    it is divided by |μ|: Newton's where the bound is concave (μ < 0), and away from the saddle where it is not
    (μ > 0), which is the saddle-free Newton step [1]_. Real counts have such saddles: plateaus that Anderson acceleration, which
    looks for a zero of f, is drawn to and that this step leaves.

    .. [1] Dauphin et al. (2014), Identifying and attacking the saddle point problem. Advances in Neural Information
       Processing Systems 27.
    """

    def __init__(self, depth: int) -> None:
        self._moves: deque[Array] = deque(maxlen=depth)
        self._changes: deque[Array] = deque(maxlen=depth)
        self._last: tuple[Array, Array] | None = None
        self._factor = MAX_FACTOR

    def retreat(self) -> None:
        """The last extrapolation lowered the bound: be more careful."""
        self._factor = max(2.0, 0.3 * self._factor)

    def extrapolate(self, point: Array, image: Array, model: GeneModel) -> Array:
        """Next iterate (p, d + q), from the current point θ and its image g(θ)."""
        step = image - point
        if self._last is not None:
            self._moves.append(point - self._last[0])
            self._changes.append(step - self._last[1])
        self._last = (point, step)
        self._factor = min(1.1 * self._factor, MAX_FACTOR)
        if not self._moves:
            return image
        moves = np.stack(self._moves)
        k = len(moves)
        weighted = model.weigh(moves).reshape(k, -1)
        gram = weighted @ moves.reshape(k, -1).T
        secant = weighted @ np.stack(self._changes).reshape(k, -1).T
        slowness, directions = _ritz(gram, 0.5 * (secant + secant.T))
        along = directions.T @ (weighted @ step.ravel())
        factors = 1 / np.maximum(np.abs(slowness), 1 / self._factor)
        extra = np.tensordot(directions @ ((factors - 1) * along), moves, 1)
        size = np.sqrt(model.squared_change(extra))
        extra *= np.minimum(1, TRUST_RADIUS / np.maximum(size, 1e-12))[:, None]
        return image + extra


def _ritz(gram: Array, operator: Array) -> tuple[Array, Array]:
    """Eigenvalues, and eigenvectors orthonormal in `gram`, of a symmetric `operator`, without the null space of `gram`."""
    scale = 1 / np.sqrt(np.maximum(np.diag(gram), 1e-300))
    values, vectors = np.linalg.eigh(gram * scale[:, None] * scale)
    kept = values > INDEPENDENCE * values.max()
    basis = scale[:, None] * vectors[:, kept] / np.sqrt(values[kept])
    slowness, rotation = np.linalg.eigh(basis.T @ operator @ basis)
    return slowness, basis @ rotation
