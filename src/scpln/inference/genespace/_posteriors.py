"""Gaussian posteriors in gene space, and their optimum for given parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._states import ROUNDING, States

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.module.covariances import Covariance


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


class Posteriors(States, ABC):
    """Posteriors of cells that are independent, each by steps of its own."""

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
    def stuck(self) -> NDArray[np.intp]:
        """Cells that did not converge."""
        return np.flatnonzero(~(self.gain < STUCK_GAIN) | ~np.isfinite(self.bound))
