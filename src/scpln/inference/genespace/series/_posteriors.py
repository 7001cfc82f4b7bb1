"""Gaussian posteriors of whole series, and their optimum for given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._fullrank import HELD, LEAST_WEIGHT, ROUNDS
from scpln.inference.genespace._posteriors import SHORTEST, STUCK_GAIN
from scpln.inference.genespace._states import REACH, ROUNDING, States

from ._smoother import Smoother

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.inference.genespace._observations import Observations
    from scpln.inference.genespace.terms import Terms

    from ._order import Order
    from ._process import Process, ProcessSlope


@dataclass
class SeriesSums:
    """What parameters need to know of the posteriors, as `Sums` of independent cells."""

    bound: float
    design: Array  # Σ_i x_i α_iᵀ, (d, p)
    process: ProcessSlope


class SeriesStates(States):
    r"""Posteriors of series with precision :math:`K^{-1} + \text{diag}\, a`, the form that the best one of any covariance has.

    K is the prior covariance of all samples and genes of a series, and as for independent cells :math:`\alpha = K^{-1} (m - Bx)`. A series takes
    Newton's steps with one step length. The bound of a series is the sum of what its samples have of it,

    .. math:: \sum_j E[\log p(y_{tj} \mid o_{tj} + z_{tj})] - \tfrac12 \log\det(I + a_t^{1/2} P_t a_t^{1/2}) + \tfrac12 \sum_j a_{tj} V_{tj,tj}
        - \tfrac12 \alpha_t^T (m_t - B x_t),

    with the covariance :math:`P_t` of z_t given the samples before it (`Smoother`).
    """

    def __init__(self, observations: Observations, terms: Terms, order: Order) -> None:
        super().__init__(observations, terms)
        self.order = order
        self.gain, self.step = np.full(order.n_series, np.inf), np.ones(order.n_series)
        self.smoother: Smoother | None = None

    def settle(self, coefficients: Array, process: Process, pool: Threads, *, max_steps: int, tol: float) -> SeriesSums:
        """Move all posteriors towards their optimum, until a step is expected to gain less than `tol` nats for each of a series' samples."""
        self.process, self.prior_mean = process, self.observations.design @ coefficients.T
        self.least = LEAST_WEIGHT / np.diagonal(process.stationary)
        tolerance = tol * self.order.total(np.ones(len(self.bound)))

        def settle_chunk(start: int, stop: int) -> SeriesSums:
            worker = object.__new__(type(self))
            worker.__dict__.update(self.__dict__)
            return worker.settle_series(np.arange(start, stop), max_steps, tolerance)

        first, *others = pool.map_chunks(settle_chunk, self.order.n_series, 1)
        for other in others:
            first = SeriesSums(*(a + b for a, b in zip(vars(first).values(), vars(other).values(), strict=True)))
        self.started = True
        return first

    def settle_series(self, chosen: NDArray[np.intp], max_steps: int, tol: Array) -> SeriesSums:
        """Optimise some series, and add up what parameters need to know."""
        rows = self._rows(chosen)
        if not self.started:
            self.guess(rows, self.prior_mean[rows])
        self.step[chosen], self.gain[chosen] = 1.0, np.inf
        self.anchor(chosen)
        active = chosen
        for _ in range(max_steps):
            change, direction = self.directions(active)
            active = active[~(self.gain[active] < tol[active]) & (self.step[active] > SHORTEST)]
            if not len(active):
                break
            self.advance(active, change, direction)
        return self.sums(chosen)

    def anchor(self, chosen: NDArray[np.intp]) -> None:
        """Newton's step from the posteriors' means as they are, under the new prior: a regression of what counts say of log-rates."""
        rows = self._rows(chosen)
        weight = self.weight.copy()
        weight[rows] = np.maximum(weight[rows], self.least)
        self.smoother = Smoother(self.process, self.order, chosen, weight)
        response = np.zeros_like(weight)
        response[rows] = self.mean[rows] + self.slope[rows] / weight[rows] - self.prior_mean[rows]
        shift = self.smoother.solve(response)
        mean = self.prior_mean + self.smoother.prior(shift)
        proposal, bound = self.proposal(rows, self.smoother, shift, mean, weight)
        self._take(rows, proposal, bound, self.smoother)

    def proposal(
        self, rows: NDArray[np.intp], smoother: Smoother, shift: Array, mean: Array, weight: Array
    ) -> tuple[tuple[Array, ...], Array]:
        """What posteriors are at these, and each sample's share of the bound, of some rows of all."""
        variance = smoother.variance()[rows]
        shift, mean, weight = shift[rows], mean[rows], weight[rows]
        found = self.terms.expected(rows, mean, variance)
        trace = np.einsum("np,np->n", weight, variance)
        residual = np.einsum("np,np->n", shift, mean - self.prior_mean[rows])
        bound = found.value - 0.5 * (smoother.log_det[rows] - trace + residual)
        return (shift, mean, weight, variance, found.slope, found.curvature), bound

    def directions(self, active: NDArray[np.intp]) -> tuple[Array, Array]:
        """Newton's changes of α and m, and what they would gain."""
        rows, smoother = self._rows(active), self._smoother_of(active)
        slope, less = np.zeros_like(self.mean), np.zeros_like(self.mean)
        slope[rows] = self.slope[rows] - self.shift[rows]
        halves = self.halves(rows, self.weight[rows])
        less[rows] = self.weight[rows] * halves / (1 + halves)
        direction = np.zeros_like(slope)
        for _ in range(ROUNDS):
            target = slope + less * direction
            change = target - smoother.solve(smoother.prior(target))
            direction = smoother.prior(change)
        apart = self.variance[rows] * (np.maximum(self.curvature[rows], self.least) - self.weight[rows])
        gain = np.zeros(len(self.bound))
        gain[rows] = 0.5 * np.einsum("np,np->n", slope[rows], direction[rows])
        gain[rows] += 0.25 * np.einsum("np,np->n", apart, apart)
        self.gain[active] = self.order.total(gain)[active]
        return change, direction

    def advance(self, active: NDArray[np.intp], change: Array, direction: Array) -> None:
        """One damped step: move m, and V with it; what is worse stays where it was, and its next step is shorter."""
        rows, series = self._rows(active), self.order.series
        largest = np.zeros(self.order.n_series)
        np.maximum.at(largest, series[rows], np.abs(direction[rows]).max(1))
        length = self.step * np.minimum(1, REACH / np.maximum(largest, 1e-300))
        by_row, step = length[series[rows], None], self.step[series[rows], None]
        old = self.weight[rows]
        weight = self.weight.copy()
        following = np.maximum(self.next_weights(rows, by_row * direction[rows]), self.least)
        weight[rows] = old * (following / old) ** np.where(step < HELD, 0, step)
        smoother = Smoother(self.process, self.order, active, weight)
        shift, mean = self.shift.copy(), self.mean.copy()
        shift[rows] += by_row * change[rows]
        mean[rows] += by_row * direction[rows]
        proposal, bound = self.proposal(rows, smoother, shift, mean, weight)
        better = self._is_better(active, rows, bound)
        kept = better[series[rows]]
        self._take(rows[kept], tuple(part[kept] for part in proposal), bound[kept], smoother)
        if not better[active].all():
            self.smoother = None
        self.step[active] = np.where(better[active], np.minimum(1, 2 * self.step[active]), self.step[active] / 4)

    def _is_better(self, active: NDArray[np.intp], rows: NDArray[np.intp], bound: Array) -> NDArray[np.bool_]:
        """Whether a proposal is no worse, of each series that is active; False of others."""
        old, new, size = (np.zeros(len(self.bound)) for _ in range(3))
        old[rows], new[rows] = self.bound[rows], bound
        size[rows] = np.abs(self.bound[rows]) + self.observations.log_factorial[rows]
        before, after = self.order.total(old), self.order.total(new)
        result = np.zeros(self.order.n_series, bool)
        better = ~(after < before - ROUNDING * self.order.total(size)) & np.isfinite(after)
        result[active] = better[active]
        return result

    def _take(self, rows: NDArray[np.intp], proposal: tuple[Array, ...], bound: Array, smoother: Smoother) -> None:
        for array, values in zip(self.state, proposal, strict=True):
            array[rows] = values
        self.bound[rows], self.smoother = bound, smoother

    def _smoother_of(self, chosen: NDArray[np.intp]) -> Smoother:
        """At the weights as they are."""
        if self.smoother is None or not np.array_equal(self.smoother.chosen, chosen):
            self.smoother = Smoother(self.process, self.order, chosen, self.weight)
        return self.smoother

    def _rows(self, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.concatenate(self.order.of_series(chosen))

    def sums(self, chosen: NDArray[np.intp]) -> SeriesSums:
        """Of some series."""
        rows = self._rows(chosen)
        process = self._smoother_of(chosen).slope(self.shift, self.mean - self.prior_mean)
        design = self.observations.design[rows].T @ self.shift[rows]
        return SeriesSums(float(self.bound[rows].sum()), design, process)

    def covariance(self) -> Array:
        """Covariances V of each sample, (n, p, p)."""
        return self._smoother_of(np.arange(self.order.n_series)).covariance()

    @property
    def stuck(self) -> NDArray[np.intp]:
        """Samples of series that did not converge."""
        bad = ~(self.gain < STUCK_GAIN) | ~np.isfinite(self.order.total(self.bound))
        return np.flatnonzero(bad[self.order.series])
