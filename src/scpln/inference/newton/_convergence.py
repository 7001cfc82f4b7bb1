"""The history of a fit, and when it has converged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scpln.core import Array

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


def finite_mean(bounds: Array) -> float:
    """Mean of the bounds that are finite, all of them in a sound fit; NaN if none is.

    Examples
    --------
    >>> finite_mean(np.array([-3.0, np.nan, -5.0]))
    -4.0
    """
    finite = np.asarray(bounds)[np.isfinite(bounds)]
    return float(finite.mean()) if len(finite) else float("nan")


def judged(converged: bool, reason: str, bounds: Array) -> tuple[bool, str]:
    """Whether a fit converged, and why it ended: none has whose bounds of cells, (n,), are not all finite.

    Examples
    --------
    >>> judged(True, "converged", np.array([-3.0, np.nan]))
    (False, 'ended with bounds that are not finite, of 1 of 2 cells (converged)')
    """
    n_wrong = int((~np.isfinite(bounds)).sum())
    if not converged or not n_wrong:
        return converged, reason
    return False, f"ended with bounds that are not finite, of {n_wrong:,} of {len(bounds):,} cells ({reason})"


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
