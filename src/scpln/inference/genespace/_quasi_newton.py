"""Directions of a limited-memory quasi-Newton method."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array

#: Steps that are remembered.
DEPTH = 20
#: A step is remembered if its curvature is at least this fraction of the squared length of the change of slopes.
LEAST_CURVATURE = 1e-10


class LimitedMemory:
    """Directions of ascent by limited-memory BFGS [1]_, with a metric that is given anew at each step.

    .. [1] Nocedal and Wright (2006), Numerical Optimization, algorithm 7.4. Springer.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[Array, Array, float]] = deque(maxlen=DEPTH)

    def __len__(self) -> int:
        return len(self._steps)

    def forget(self) -> None:
        """Start again with the given metric alone."""
        self._steps.clear()

    def remember(self, step: Array, change: Array, precondition: Callable[[Array], Array]) -> None:
        """Take note of a step and of by how much the slope fell along it."""
        curvature = float(step @ change)
        if curvature > LEAST_CURVATURE * float(change @ precondition(change)):
            self._steps.append((step, change, 1 / curvature))

    def direction(self, slope: Array, precondition: Callable[[Array], Array]) -> Array:
        """Inverse curvature times slope; `precondition` is a first guess of the inverse curvature, symmetric and positive."""
        rest, along = slope.copy(), []
        for step, change, inverse in reversed(self._steps):
            along.append(inverse * float(step @ rest))
            rest -= along[-1] * change
        direction = precondition(rest)
        if self._steps:
            _, change, inverse = self._steps[-1]
            direction *= 1 / (inverse * float(change @ precondition(change)))
        for (step, change, inverse), before in zip(self._steps, reversed(along), strict=True):
            direction += (before - inverse * float(change @ direction)) * step
        return direction
