"""One mixture, from one start to the maximum that it leads to."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._infer import MAX_STEPS, TOLERANCE
from scpln.inference.genespace._maximize import Maximizer
from scpln.inference.newton._convergence import History

from ._posteriors import ComponentPosteriors
from ._profile import MixtureProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, Threads
    from scpln.inference.genespace._observations import Observations
    from scpln.inference.genespace._posteriors import Posteriors

    from ._parameters import MixtureParameters

#: Closed steps and all iterations of a start before it is compared with others, and the gain, nats per cell, at which it ends.
SHORT_CLOSED, SHORT, SHORT_TOLERANCE = 5, 12, 1e-3


@dataclass(frozen=True)
class Run:
    """What one search reached."""

    profile: MixtureProfile
    history: History
    converged: bool
    reason: str

    @property
    def objective(self) -> float:
        """Sum of bounds, plus the log-prior of coefficients; −∞ where it is not finite."""
        value = self.profile.objective
        return value if np.isfinite(value) else -np.inf

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return "interrupted" in self.reason

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return self.profile.parameters.n_components

    @property
    def responsibilities(self) -> Array:
        """τ, (n, K)."""
        return self.profile.posteriors.responsibilities

    @cached_property
    def groups(self) -> Array:
        """Most probable component of each cell, (n,)."""
        return self.responsibilities.argmax(1)

    def of_own(self, name: str) -> Array:
        """An array (n, p) of the posteriors of each cell under its most probable component."""
        parts = np.stack([getattr(part, name) for part in self.profile.posteriors.components], 1)
        return parts[np.arange(len(parts)), self.groups]


@dataclass(frozen=True)
class Runner:
    """What all searches share."""

    observations: Observations
    family: type[Posteriors]
    prior_precision: float
    max_iter: int
    tol: float
    pool: Threads
    on_iteration: Callable[[int, float], None] | None = None

    def short(self, start: MixtureParameters) -> Run:
        """A few steps from a start."""
        profile = MixtureProfile(start, self.posteriors(start), self.prior_precision, self.pool)
        return self.run(profile, min(SHORT, self.max_iter), SHORT_TOLERANCE, SHORT_CLOSED)

    def run_of(self, start: MixtureParameters) -> Run:
        """From a start that is good already, to the maximum."""
        profile = MixtureProfile(start, self.posteriors(start), self.prior_precision, self.pool)
        return self.run(profile, self.max_iter, self.tol, 0)

    def start_of(self, start: MixtureParameters) -> Run:
        """A start alone, with posteriors and no steps."""
        profile = MixtureProfile(start, self.posteriors(start), self.prior_precision, self.pool)
        profile.settle(max_steps=MAX_STEPS, tol=TOLERANCE)
        return Run(profile, History(), converged=False, reason="interrupted before the first iteration")

    def finish(self, run: Run) -> Run:
        """To the maximum."""
        if run.interrupted:
            return run
        return self.run(copy.copy(run.profile), self.max_iter, self.tol, 0)

    def run(self, profile: MixtureProfile, max_iter: int, tol: float, closed_steps: int) -> Run:
        """From where a profile is."""
        history = History()
        maximizer = Maximizer(profile, history, max_iter, tol, self.on_iteration)  # type: ignore[arg-type]
        maximizer.run(closed_steps)
        return Run(profile, history, maximizer.converged, maximizer.reason)

    def posteriors(self, start: MixtureParameters) -> ComponentPosteriors:
        """Those of so many components, before any step."""
        return ComponentPosteriors(self.family, self.observations, start.n_components)
