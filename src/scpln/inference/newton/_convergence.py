"""The history of a fit, and when it has converged."""

from __future__ import annotations

import time

import numpy as np

#: Acceleration starts when an iteration gains less than this fraction of the bound, and remembers so many iterations.
ACCELERATION_START, ACCELERATION_DEPTH = 2e-3, 10
#: The gain that decides on convergence is averaged over so many iterations.
PATIENCE = 10
#: Fraction of the tolerance that the predicted gain may still have at convergence.
PREDICTED_GAIN_FRACTION = 0.05
#: A bound that is below its best by more than this fraction has fallen: more than the rounding of rates in float32.
FALL = 1e-5


def has_settled(bounds: list[float], tol: float) -> bool:
    """Whether the last iterations neither gained more than `tol` each, on average, nor lost what those before them had."""
    if len(bounds) <= PATIENCE or not np.isfinite(bounds[-PATIENCE:]).all():
        return False
    before = max(bounds[:-PATIENCE])
    gain = max(bounds[-PATIENCE:]) - before
    return -max(PATIENCE * tol, FALL * abs(before)) <= gain < PATIENCE * tol


class History:
    """Mean bound per cell, what is maximised, and seconds since the start, after each accepted iteration of the last `reset`.

    What is maximised is the bound itself, or, under a prior of the genes' parameters, that of counts and loadings together.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.reset()

    def reset(self) -> None:
        """Forget the bounds of another problem, but not the time they took."""
        self.elbo: list[float] = []
        self.objective: list[float] = []
        self.seconds: list[float] = []

    @property
    def lists(self) -> dict[str, list[float]]:
        """All of it, by name."""
        return {"elbo": self.elbo, "objective": self.objective, "seconds": self.seconds}

    def add(self, elbo: float, objective: float) -> None:
        """Note an accepted iteration."""
        self.elbo.append(elbo)
        self.objective.append(objective)
        self.seconds.append(time.perf_counter() - self._started)
