"""What is known of the posteriors of all cells, and where their next steps lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .terms import PoissonTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array

    from ._observations import Observations
    from .terms import Terms

    Cells: TypeAlias = slice | NDArray[np.intp]

#: Largest change of a log-rate in one step.
REACH = 3.0
#: A bound is worse when it is lower by more than this fraction of it and of log y!, which is as large as what it is the difference of: rounding.
ROUNDING = 1e-14
#: Newton steps for the next weight of an entry, and the largest change of its logarithm, well within float32.
WEIGHT_STEPS, MAX_CHANGE = 2, np.float32(60)
#: What counts say of a log-rate, of all that is known of it, at most: 1 within float32.
LARGEST_SHARE = 1 - 1e-6


class States:
    r"""Posteriors :math:`N(m_i, V_i)` of the log-rates of all cells, without offsets.

    A cell is known by its mean m, the shift :math:`\alpha = \Omega (m - Bx)` and the weights a, (p,) each, of
    which V follows: at the optimum :math:`\alpha = E[\ell']` and :math:`a = -E[\ell'']`, slope and curvature of the expected log-likelihood of
    each count, `terms`: y − A and A of Poisson counts, with the expected rates A. Neither α nor a grows where Σ becomes singular.
    """

    def __init__(self, observations: Observations, terms: Terms | None = None) -> None:
        self.observations = observations
        self.terms: Terms = PoissonTerms(observations) if terms is None else terms
        n, p = observations.shape
        self.shift, self.weight = np.zeros((n, p)), np.empty((n, p))
        self.mean, self.variance = np.empty((n, p)), np.zeros((n, p))
        self.slope, self.curvature = np.empty((n, p)), np.empty((n, p))
        self.bound, self.log_det = np.full(n, np.nan), np.full(n, np.nan)
        self.gain, self.step = np.full(n, np.inf), np.ones(n)
        self.started = False

    def guess(self, cells: Cells, prior_mean: Array) -> None:
        """Log-rates that the first step is taken from: those of the prior, or log y where counts are above them.

        From above, Newton's steps on exp(·) fall by about 1 each; from below they may go anywhere.
        """
        seen = self.observations
        counts = seen.counts[cells]
        above = counts > seen.rates(cells, seen.offsets[cells] + prior_mean)
        self.mean[cells] = np.where(above, np.log(np.where(above, counts, 1)) - seen.offsets[cells], prior_mean)
        found = self.terms.expected(cells, self.mean[cells], self.variance[cells])
        self.slope[cells] = found.slope
        self.curvature[cells] = self.weight[cells] = np.maximum(found.curvature, 0)

    def next_weights(self, cells: Cells, direction: Array) -> Array:
        """Weights that are the curvatures after means moved in a direction, with variances that follow.

        As a weight rises, its variance and with it the curvature falls. If no other weight mattered, a weight of a eᶜ would make
        v' = v / (1 + v a (eᶜ - 1)), and with the steepness s, 1 for rates, c = log(w / a) + s δ + ½ s² (v' - v) is solved for each
        entry, between 0 and log(w / a) + s δ. In float32, as any weights make a bound.
        """
        weight, curvature = self.weight[cells], self.curvature[cells]
        steepness = np.asarray(self.terms.steepness(cells), np.float32)
        known = (curvature > 0) & (
            weight > 0
        )  # where curvatures are negative, V stays positive definite without weights
        target = np.zeros(curvature.shape, np.float32)
        ratio = np.divide(curvature, weight, where=known, out=np.ones_like(curvature))
        np.log(ratio, out=target, casting="same_kind")
        target += steepness * direction.astype(np.float32)
        np.clip(target, -MAX_CHANGE, MAX_CHANGE, out=target)
        variance = self.variance[cells].astype(np.float32)
        share = np.minimum(weight * self.variance[cells], LARGEST_SHARE).astype(np.float32)
        low, high = np.minimum(target, 0), np.maximum(target, 0)
        half = np.float32(0.5) * steepness**2
        root = np.float32(0.5) * target
        for _ in range(WEIGHT_STEPS):
            rise = share * np.expm1(root)
            moved = variance / (1 + rise)
            excess = root - target - half * (moved - variance)
            root -= excess / (1 + half * moved * (rise + share) / (1 + rise))
            np.clip(root, low, high, out=root)
        return np.where(known, weight * np.exp(root.astype(np.float64)), np.maximum(curvature, 0))

    @property
    def state(self) -> tuple[Array, ...]:
        """What a posterior is, in the order of proposals."""
        return self.shift, self.mean, self.weight, self.variance, self.slope, self.curvature

    def snapshot(self) -> tuple[Array, ...]:
        """Copies of what posteriors start from."""
        return tuple(array.copy() for array in self.state)

    def restore(self, snapshot: tuple[Array, ...]) -> None:
        """Take over a snapshot."""
        for array, values in zip(self.state, snapshot, strict=True):
            array[...] = values

    def halves(self, cells: Cells, weight: Array) -> Array:
        """½ s² a v², by which variances that follow the means lower the curvature a by a mean: to about a / (1 + ½ s² a v²).

        So it is where each variance depends on its own weight alone, whose steepness s is 1 for rates.
        """
        halves: Array = 0.5 * np.square(self.terms.steepness(cells)) * weight * self.variance[cells] ** 2
        return halves
