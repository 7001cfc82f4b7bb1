"""The maximum of the penalised bound, for one penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpln.inference.genespace._maximize import Maximizer
from scpln.inference.newton._convergence import PREDICTED_GAIN_FRACTION

if TYPE_CHECKING:
    from ._penalized import PenalizedProfile

#: Most times that edges are looked for anew, and steps of expectation maximisation in each.
ROUNDS, CLOSED_STEPS = 100, 2
#: Most steps of a cell after those, and after steps in the values of edges; how much nearer than elsewhere cells come to their optimum.
STEPS_FROM_GUESS, CELL_STEPS, EXACT = 40, 4, 1e-3
#: What an ascent may leave, as a share of what edges that were found gained before it, or of what the last one left.
LOOSER = 0.1


class NetworkMaximizer(Maximizer):
    """Quasi-Newton ascent in B and the entries of Ω that edges have, between graphical lassos, which say what the edges are.

    A graphical lasso of the second moment of residuals is the M-step of expectation maximisation, and never lowers what is maximised;
    alone, hundreds of them are needed. With the edges known, the problem is smooth.
    """

    profile: PenalizedProfile

    def run(self, closed_steps: int = CLOSED_STEPS) -> None:
        """Iterate until neither the values of edges nor other edges raise what is maximised; an interrupt ends that, at the best so far."""
        self.best, self.closed_steps = self.profile.place, closed_steps
        try:
            self._settle(STEPS_FROM_GUESS)
            self._alternate(PREDICTED_GAIN_FRACTION * self.tol * self.profile.n_cells)
        except KeyboardInterrupt:
            self.profile.return_to(self.best)
            self.converged = False
            self.reason = f"interrupted after {len(self.history.elbo)} iterations; what they reached is kept"

    def _alternate(self, least: float) -> None:
        """Look for edges and ascend, as exactly as pays, until edges are no longer missing and `least` nats are expected."""
        target = max(least, LOOSER * self._find_edges())
        for _ in range(ROUNDS):
            raised = self._ascend(target)
            if self.reason:
                return
            self._settle(STEPS_FROM_GUESS)
            if not raised or self.profile.misses_edges:
                target = max(least, LOOSER * self._find_edges())
            elif target > least:
                target = max(least, LOOSER * target)
            else:
                self.converged, self.reason = True, f"converged: gains below {self.tol:g} nats per cell"
                return
        self.reason = f"ended: edges still change after {ROUNDS} graphical lassos"

    def _settle(self, max_steps: int = CELL_STEPS) -> None:
        self.profile.settle(max_steps=max_steps, tol=EXACT * self.tol)

    def _find_edges(self) -> float:
        """Steps of expectation maximisation, of which the last says what the edges are; what they gained."""
        before = self.profile.objective
        self.memory.forget()
        for _ in range(self.closed_steps):
            self.profile.maximize_given_posteriors()
            self._settle(STEPS_FROM_GUESS)
            self._accept()
        return self.profile.objective - before

    def _accept(self) -> None:
        self.best = self.profile.place
        self._note()

    def _ascend(self, least: float) -> bool:
        """Steps in the values of edges, until they are expected to gain little; whether there were such, to the end."""
        while not self.reason:
            self._step()
            self._accept()
            if self.reason or not self.predicted > least:
                raised = not self.reason or self.converged
                self.reason, self.converged = "", False
                return raised
            if len(self.history.elbo) >= self.max_iter:
                self.reason = f"{self.max_iter} iterations, the maximum"
        return False
