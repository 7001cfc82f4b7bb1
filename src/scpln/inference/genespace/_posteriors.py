"""Gaussian posteriors in gene space, and their optimum for given parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .terms import PoissonTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.module.covariances import Covariance

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
#: A cell whose steps were shortened to this has reached rounding.
SHORTEST = 1e-5
#: A cell that ran out of steps and whose last had a predicted gain above this has not converged, nats.
STUCK_GAIN = 1e-4


@dataclass
class Sums:
    r"""What parameters need to know of the posteriors, summed over cells.

    With shifts :math:`\alpha_i = \Omega (m_i - B x_i)`, which are the slopes of the bound by the prior's means, and
    :math:`\Omega = \Sigma^{-1}`, the slope of the sum of bounds by Σ is ½G.
    """

    bound: float
    design: Array  # Σ_i x_i α_iᵀ, (d, p)
    gradient: Array  # G = Ω (Σ_i E[r_i r_iᵀ] − n Σ) Ω, (p, p)
    likelihood: Array  # slope by coordinates of the likelihood's parameters, (k,)

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(mine + its for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))


class Posteriors(ABC):
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

    @abstractmethod
    def prepare(self, covariance: Covariance) -> None:
        """Take over Σ."""

    @abstractmethod
    def block_size(self) -> int:
        """Cells that are worked on together."""

    @abstractmethod
    def anchor(self, cells: slice, prior_mean: Array) -> None:
        """Move posteriors of a block to where they are best known to be under a new prior."""

    @abstractmethod
    def directions(self, cells: NDArray[np.intp]) -> tuple[Array, Array]:
        """Newton's changes of α and m of some cells of the block that was anchored last, which say what they would gain."""

    @abstractmethod
    def advance(self, cells: NDArray[np.intp], prior_mean: Array, change: Array, direction: Array) -> None:
        """One damped step, given changes of α and m."""

    @abstractmethod
    def place(self, cells: slice, prior_mean: Array, mean: Array, variance: Array) -> None:
        """Put posteriors of a block where they are given by means and variances."""

    @abstractmethod
    def covariance(self) -> Array:
        """V of all cells, (n, p, p)."""

    @abstractmethod
    def gradient(self, cells: slice, shares: Array | None = None) -> Array:
        """G of the block that was anchored last, without that of shifts, each cell by its share if there are some."""

    def settle(self, coefficients: Array, covariance: Covariance, pool: Threads, *, max_steps: int, tol: float) -> Sums:
        """Move all posteriors towards their optimum, until a step is expected to gain less than `tol` nats a cell.

        The bound is concave in the cells' means and precisions, so that there is one optimum. Each cell has a step length of its own, and
        takes no step that lowers its bound.
        """
        self.prepare(covariance)

        def process_chunk(start: int, stop: int) -> list[Sums]:
            size, parts = self.block_size(), []
            worker = self.worker()
            for first in range(start, stop, size):
                cells = slice(first, min(first + size, stop))
                worker.settle_block(cells, coefficients, max_steps, tol)
                parts.append(worker.sums(cells))
            return parts

        chunks = pool.map_chunks(process_chunk, self.observations.shape[0], self.block_size())
        first, *others = [part for chunk in chunks for part in chunk]
        for other in others:
            first += other
        self.started = True
        return first

    def worker(self) -> Posteriors:
        """Itself, sharing all arrays of cells, for one thread: what belongs to a block is its own."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def settle_block(self, cells: slice, coefficients: Array, max_steps: int, tol: float) -> None:
        """Optimise a block of cells."""
        prior_mean = self.observations.design[cells] @ coefficients.T
        if not self.started:
            self.guess(cells, prior_mean)
        self.step[cells] = 1.0
        self.anchor(cells, prior_mean)
        self.gain[cells] = np.inf
        active = np.arange(cells.start, cells.stop)
        for _ in range(max_steps):
            change, direction = self.directions(active)
            left = ~(self.gain[active] < tol) & (self.step[active] > SHORTEST)
            active = active[left]
            if not len(active):
                break
            self.advance(active, prior_mean[active - cells.start], change[left], direction[left])

    def sums(self, cells: slice, shares: Array | None = None) -> Sums:
        """Add up what the block gives that was settled last; each cell by its share (n,), if there are some, but for the likelihood."""
        shift, bound, design = self.shift[cells], self.bound[cells], self.observations.design[cells]
        counted, total = (shift, bound.sum()) if shares is None else (shares[:, None] * shift, shares @ bound)
        by_likelihood = self.terms.slope(cells, self.mean[cells], self.variance[cells])
        return Sums(float(total), design.T @ counted, shift.T @ counted + self.gradient(cells, shares), by_likelihood)

    def guess(self, cells: slice, prior_mean: Array) -> None:
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

    def accept(
        self, cells: NDArray[np.intp], proposal: tuple[Array, ...], bound: Array, log_det: Array
    ) -> NDArray[np.bool_]:
        """Keep what is no worse, and shorten the other cells' steps. Which cells moved."""
        old = self.bound[cells]
        better = ~(bound < old - ROUNDING * (np.abs(old) + self.observations.log_factorial[cells])) & np.isfinite(bound)
        moved = cells[better]
        for array, new in zip(self.state, proposal, strict=True):
            array[moved] = new[better]
        self.bound[moved], self.log_det[moved] = bound[better], log_det[better]
        self.step[cells] = np.where(better, np.minimum(1, 2 * self.step[cells]), self.step[cells] / 4)
        return better

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

    @property
    def stuck(self) -> NDArray[np.intp]:
        """Cells that did not converge."""
        return np.flatnonzero(~(self.gain < STUCK_GAIN) | ~np.isfinite(self.bound))

    def halves(self, cells: Cells, weight: Array) -> Array:
        """½ s² a v², by which variances that follow the means lower the curvature a by a mean: to about a / (1 + ½ s² a v²).

        So it is where each variance depends on its own weight alone, whose steepness s is 1 for rates.
        """
        halves: Array = 0.5 * np.square(self.terms.steepness(cells)) * weight * self.variance[cells] ** 2
        return halves
