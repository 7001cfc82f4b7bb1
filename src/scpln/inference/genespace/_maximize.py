"""Maximise the bound over coefficients and covariance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.newton._convergence import PREDICTED_GAIN_FRACTION, has_settled

from ._quasi_newton import LimitedMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array
    from scpln.inference.newton._convergence import History

    from ._profile import Profile

#: Closed steps of expectation maximisation that come first, the most steps of a cell in each, and the predicted gain that ends them, nats.
CLOSED_STEPS, STEPS_FROM_GUESS, CLOSED_TOLERANCE = 5, 10, 0.05
#: Most steps of a cell at each point after these.
CELL_STEPS = 2
#: A step that lowers the bound is shortened by this, down to the shortest.
SHORTER, SHORTEST = 0.3, 1e-6
#: Fraction of the objective and of log y! that is rounding.
ROUNDING = 1e-14


@dataclass
class Maximizer:
    """Quasi-Newton ascent on the bound at the best posteriors, which are found by a few steps at each point.

    A few are enough, since the bound at any posteriors is a bound: what is accepted has never lowered it.
    """

    profile: Profile
    history: History
    max_iter: int
    tol: float
    on_iteration: Callable[[int, float], None] | None = None
    converged: bool = False
    reason: str = ""
    predicted: float = np.inf
    memory: LimitedMemory = field(default_factory=LimitedMemory)

    def run(self, closed_steps: int) -> None:
        """Iterate until the bound stops rising; an interrupt (Ctrl-C) ends that, at the best point so far."""
        best = self.profile.point
        try:
            for _ in range(min(closed_steps, self.max_iter)):
                self.profile.settle(max_steps=STEPS_FROM_GUESS, tol=CLOSED_TOLERANCE)
                self._note()
                self.profile.maximize_given_posteriors()
                best = self.profile.point
            self.profile.move(best)
            self._settle(STEPS_FROM_GUESS)
            while not self._ended():
                best = self._step()
                self._note()
        except KeyboardInterrupt:
            self.profile.move(best)
            self.converged = False
            self.reason = f"interrupted after {len(self.history.elbo)} iterations; what they reached is kept"

    def _settle(self, max_steps: int = CELL_STEPS) -> None:
        self.profile.settle(max_steps=max_steps, tol=self.tol)

    def _note(self) -> None:
        n = len(self.profile.posteriors.bound)
        self.history.add(self.profile.sums.bound / n, self.profile.objective / n)
        if self.on_iteration is not None:
            self.on_iteration(len(self.history.elbo), self.history.elbo[-1])

    def _ended(self) -> bool:
        """Whether to stop, and why."""
        if self.reason:
            return True
        if has_settled(self.history.objective, self.tol):
            self.converged, self.reason = True, f"converged: gains below {self.tol:g} nats per cell"
        elif len(self.history.elbo) >= self.max_iter:
            self.reason = f"{self.max_iter} iterations, the maximum"
        return bool(self.reason)

    def _step(self) -> Array:
        """Go to a better point, and return it; where there is none in any direction, the one it came from."""
        profile = self.profile
        point, objective, slope = profile.point, profile.objective, profile.slope
        metric, snapshot = profile.metric(), profile.posteriors.snapshot()
        rounding = ROUNDING * (abs(objective) + float(profile.posteriors.observations.log_factorial.sum()))
        while True:
            direction = self.memory.direction(slope, metric)
            self.predicted, length = float(slope @ direction), 1.0
            while self.predicted > 0 and length > SHORTEST:
                profile.move(point + length * direction)
                self._settle()
                if profile.objective >= objective - rounding:
                    self.memory.remember(profile.point - point, slope - profile.slope, metric)
                    return profile.point
                profile.posteriors.restore(snapshot)
                length *= SHORTER
            if not len(self.memory):
                break
            self.memory.forget()
        profile.move(point)
        self._settle()
        self._stop_here(self.predicted)
        return point

    def _stop_here(self, predicted: float) -> None:
        least = PREDICTED_GAIN_FRACTION * self.tol * len(self.profile.posteriors.bound)
        self.converged = bool(np.isfinite(predicted)) and predicted < least
        said = "converged" if self.converged else "ended"
        self.reason = f"{said}: no step raises the bound, of which {predicted:.2g} nats more are expected"
