"""Networks at several penalties, from the largest down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.newton._convergence import History

from ._ascent import STEPS_FROM_GUESS, NetworkMaximizer
from ._penalized import BEYOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scpln.core import Array

    from ._penalized import PenalizedProfile, Place

#: Penalties of a path, and the smallest as a share of the largest.
N_PENALTIES, SMALLEST = 30, 0.1
#: Penalties below these, at most, where the last one is the best.
MOST_MORE = 30
#: What no fit may raise where the path is to go on.
FAILURES = (ValueError, FloatingPointError, np.linalg.LinAlgError)


@dataclass
class Network:
    """What was found at one penalty.

    Attributes
    ----------
    penalty
        λ.
    place
        B, Ω and the likelihood's parameters; those of the penalty before if this one diverged.
    n_edges, n_parameters, bound
        Edges, free numbers with the coefficients, and the sum of bounds without the penalty, nats; NaN if it diverged.
    converged, reason
        Whether it did, and why it ended.
    history
        Of its iterations.
    stability
        How far subsamples agree, 1 − 2 D, if that was asked.
    """

    penalty: float
    place: Place
    n_edges: float
    n_parameters: float
    bound: float
    converged: bool
    reason: str
    history: History = field(repr=False)
    stability: float = float("nan")

    @property
    def diverged(self) -> bool:
        """Whether nothing was found."""
        return not np.isfinite(self.bound)

    def bic(self, n_cells: int) -> float:
        r"""Bayesian information criterion, :math:`J - \frac12 k \log n`, of the bound J and k parameters: the higher, the better."""
        return self.bound - 0.5 * self.n_parameters * float(np.log(n_cells))

    def ebic(self, n_cells: int, n_genes: int, gamma: float = 0.5) -> float:
        r"""Extended criterion [1]_, :math:`\text{BIC} - 2 \gamma |E| \log p`, which reckons with how many networks have as many edges: the higher, the better.

        .. [1] Foygel and Drton (2010), Extended Bayesian information criteria for Gaussian graphical models. NeurIPS 23.
        """
        return self.bic(n_cells) - 2 * gamma * self.n_edges * float(np.log(n_genes))


def penalty_grid(profile: PenalizedProfile) -> Array:
    """Penalties from the smallest that leaves no edge to a tenth of it, equally spaced in logarithms, of a profile without edges at its optimum."""
    pull = np.abs(np.triu(profile.pull, 1)).max(initial=0.0)
    largest = (1 + BEYOND) * float(pull) if pull > 0 else 1.0
    return np.geomspace(largest, SMALLEST * largest, N_PENALTIES)


def solve_path(
    profile: PenalizedProfile,
    penalties: Iterable[float],
    max_iter: int,
    tol: float,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Iterator[Network]:
    """Networks at falling penalties, each from the one before.

    One that diverges says so, and the next starts where the last good one is. After an interrupt, which the last one says, there are no more.
    """
    done = 0

    def note(iteration: int, bound: float) -> None:
        if on_iteration is not None:
            on_iteration(done + iteration, bound)

    for penalty in penalties:
        network = solve(profile, float(penalty), max_iter, tol, note)
        done += len(network.history.elbo)
        yield network
        if "interrupted" in network.reason:
            return


def solve(
    profile: PenalizedProfile,
    penalty: float,
    max_iter: int,
    tol: float,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Network:
    """The network at one penalty, from where the profile is."""
    history, before, posteriors = History(), profile.place, profile.posteriors.snapshot()
    profile.penalize(penalty)
    maximizer = NetworkMaximizer(profile, history, max_iter, tol, on_iteration)
    try:
        maximizer.run()
        profile.settle(max_steps=STEPS_FROM_GUESS, tol=tol)
        bound, reason = profile.sums.bound, maximizer.reason
        if not np.isfinite(bound):
            reason = "diverged: the bound is not finite"
    except FAILURES as error:
        bound, reason = np.nan, f"diverged: {error}"
    if not np.isfinite(bound):
        profile.return_to(before)
        profile.posteriors.restore(posteriors)
        profile.settle(max_steps=STEPS_FROM_GUESS, tol=tol)
        return Network(penalty, before, np.nan, np.nan, np.nan, False, reason, history)
    covariance = profile.covariance
    return Network(
        penalty,
        profile.place,
        covariance.n_edges,
        profile.coefficients.size + covariance.n_parameters + len(profile.posteriors.terms.coordinates),
        float(bound),
        maximizer.converged,
        reason,
        history,
    )
