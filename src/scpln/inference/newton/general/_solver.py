"""Maximise the bound of any likelihood over posteriors, coefficients, loadings and the likelihood's parameters.

An iteration proposes a Newton step of every gene, the parameter expansion and the acceleration, and passes over the
cells, in which every cell takes a Newton step. The proposal is taken unless the bound that the pass ends with is below the
one before: then cells and genes return to where they were, and the next proposal is more careful.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.newton._acceleration import SecantAcceleration
from scpln.inference.newton._convergence import ACCELERATION_DEPTH, ACCELERATION_START, PATIENCE, PROMISE
from scpln.inference.newton._expansion import Expansion
from scpln.inference.newton._genes import GeneParameters

from ._block import LikelihoodBlock, LogRateFeatures, block_size
from ._cells import move_cells, step_cells
from ._genes import GeneCurvature, GeneGradient, LikelihoodGenes, ParameterProbe, gene_model, positive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scpln.core import Array, CountData, Threads
    from scpln.inference.expectations import Expectations
    from scpln.inference.newton._convergence import History
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._genes import GeneModel
    from scpln.inference.newton._states import CellStates

#: Mean change of the likelihood's parameters after which their curvature is taken anew.
STALE_CHANGE = 0.05
#: Mean bounds that differ by less than this share of their precision are the same: the rounding of many cells averages out.
ROUNDINGS = 0.1
#: Proposals in a row that may fail before nothing is left to gain.
MAX_FAILURES = 8
#: A gene has gone too far when its slope along the step turns to less than this share of what it was.
OVERSHOOT = -0.5
#: Largest damping of a gene's step that is as good as none.
NO_DAMPING = 1e-3


class PassSums:
    """What a pass over the cells sums."""

    def __init__(self, data: CountData, family: GaussianFamily, n_parameters: int) -> None:
        self.arrival = GeneGradient(data, family, n_parameters)  # before the cells moved
        self.gradient = GeneGradient(data, family, n_parameters)
        self.curvature = GeneCurvature(data, family)
        self.own = np.zeros((n_parameters, data.n_genes, n_parameters))  # curvature by γ, if it was taken

    def __iadd__(self, other: PassSums) -> PassSums:
        self.arrival += other.arrival
        self.gradient += other.gradient
        self.curvature += other.curvature
        self.own += other.own
        return self


@dataclass(frozen=True)
class Point:
    """Genes and cells, and what a pass over them gave."""

    genes: LikelihoodGenes
    cells: CellStates
    sums: PassSums
    own: Array  # curvature by γ, (g, g, p), positive definite
    drift: float  # mean change of γ since it was taken

    @property
    def bound(self) -> float:
        """Mean bound per cell, nats."""
        return self.sums.gradient.bound / len(self.cells.mean)


class LikelihoodSolver:
    """A bound being maximised: data, current posteriors `cells` and `genes`."""

    def __init__(
        self,
        data: CountData,
        family: GaussianFamily,
        rule: Expectations,
        genes: LikelihoodGenes,
        cells: CellStates,
        *,
        pool: Threads,
        batch_size: int | None,
    ) -> None:
        self.data, self.family, self._rule = data, family, rule
        self.genes, self.cells = genes, cells
        self._pool, self._block = pool, block_size(data, rule, pool.n_threads, batch_size)
        self._damping = np.zeros(data.n_genes)
        self._promises: list[float] = []  # gain per cell that the genes' quadratic models promised, by iteration
        self.converged, self.interrupted, self.reason = False, False, ""

    def run(
        self,
        history: History,
        *,
        max_iter: int,
        tol: float,
        on_iteration: Callable[[int, float], None] | None = None,
        first_cell_steps: int = 1,
        axes: Array | None = None,
    ) -> None:
        """Iterate until an iteration gains less than `tol` nats per cell, averaged over the last few.

        Stop when `history` has `max_iter` entries. The first pass takes `first_cell_steps` steps per cell, after a
        rotation to `axes` if that raises the bound. An interrupt ends the iterations and leaves what they reached.
        """
        self.converged = False
        self._promises.clear()
        try:
            first = self._first(first_cell_steps, axes, history)
            for point in self._iterations(first, max_iter - len(history.elbo)):
                self.genes, self.cells = point.genes, point.cells
                history.add(point.bound)
                if on_iteration is not None:
                    on_iteration(len(history.elbo), point.bound)
                self.reason = self._arrival(history, tol)
                if self.reason:
                    self.converged = True
                    return
            if len(history.elbo) < max_iter:
                self.converged, self.reason = True, "converged: no step raises the bound by more than rounding"
            else:
                self.reason = f"stopped after {max_iter} iterations, the maximum, before convergence"
        except KeyboardInterrupt:
            self.interrupted = True
            self.reason = f"interrupted after {len(history.elbo)} iterations; what they reached is kept"

    def _first(self, cell_steps: int, axes: Array | None, history: History) -> Point:
        """The point that the iteration starts from: a turn of the latent space, z → z W, must not lower the bound."""
        if axes is not None:
            variance, log_det = self.family.rotate(self.cells.variance, axes)
            mean = self.cells.mean @ axes.astype(self.cells.dtype)
            cells = replace(self.cells, mean=mean, variance=variance, log_det=log_det, step=self.cells.step.copy())
            linear = GeneParameters(self.genes.linear.coefficients, self.genes.linear.loadings @ axes)
            turned = self._visit(LikelihoodGenes(linear, self.genes.parameters), cells, None, cell_steps)
            if turned.bound >= history.elbo[-1]:
                return turned
        return self._visit(self.genes, self.cells, None, cell_steps)

    def _arrival(self, history: History, tol: float) -> str:
        """Why the iteration has converged, or nothing when it has not; as for Poisson counts."""
        promises, bounds = self._promises[-2:], history.elbo
        if len(promises) == 2 and max(promises) < PROMISE * tol:
            return f"converged: the gradient promises less than {PROMISE * tol:g} nats per cell"
        if len(bounds) > PATIENCE and bounds[-1] - bounds[-1 - PATIENCE] < PATIENCE * tol:
            return f"converged: the last {PATIENCE} iterations gained less than {tol:g} nats per cell each"
        return ""

    def _iterations(self, first: Point, max_iter: int) -> Iterator[Point]:
        """Iterate, and yield each point that was taken, until no proposal is."""
        acceleration = SecantAcceleration(ACCELERATION_DEPTH)
        accelerating = False
        point: Point | None = first
        for iteration in range(max_iter):
            if point is None:
                return
            yield point
            if iteration == max_iter - 1:
                return
            before = point.bound
            point = self._improve(point, acceleration if accelerating else None)
            if point is not None and iteration > 1:
                accelerating |= point.bound - before < ACCELERATION_START * abs(before)

    def _improve(self, point: Point, acceleration: SecantAcceleration | None) -> Point | None:
        """The next point, or none when no proposal is better than this one."""
        model = self._model(point)
        expansion = Expansion.at(point.cells, self.data.design, self.family)
        start = point.genes.expanded(expansion).stacked
        least = point.bound - ROUNDINGS * float(np.finfo(point.cells.dtype).eps) * abs(point.bound)
        self._promises.append(model.step(np.zeros_like(self._damping))[1] / self.data.n_cells)
        for _ in range(MAX_FAILURES):
            step = model.step(self._damping)[0]
            genes = point.genes.at(point.genes.stacked + step).expanded(expansion)
            if acceleration is not None:
                genes = genes.at(acceleration.extrapolate(point.genes.stacked, genes.stacked, model))
            cells = replace(point.cells, **{k: v.copy() for k, v in vars(point.cells).items()})
            expansion.move_cells(cells, self.data.design, self.family)
            trial = self._visit(genes, cells, point)
            far = self._too_far(genes.stacked - start, expansion, model, trial)
            good = trial.bound >= least
            if acceleration is not None and not good:
                acceleration.retreat()
                acceleration = None
                continue
            if acceleration is None:
                self._damp(far if good or far.any() else ~far)
            if good:
                return trial
        return None

    def _model(self, point: Point) -> GeneModel:
        loadings = point.genes.linear.loadings
        gradient, linear = point.sums.gradient.by(loadings), point.sums.curvature.by(loadings)
        return gene_model(gradient, linear, point.own, self.data.design.shape[1])

    def _too_far(self, change: Array, expansion: Expansion, model: GeneModel, trial: Point) -> Array:
        """Genes whose part of the bound falls at the end of their `change`, with cells where they were, (p,)."""
        d, q = expansion.shift.shape
        by_b, by_c, by_gamma = np.split(model.gradient, [d, d + q], axis=1)
        by_c = (by_c - by_b @ expansion.shift) @ np.linalg.inv(expansion.scale)
        first = (np.hstack([by_b, by_c, by_gamma]) * change).sum(1)
        last = (trial.sums.arrival.by(trial.genes.linear.loadings) * change).sum(1)
        slack = 1e-4 * self.data.n_cells / self.data.n_genes
        return ~(last >= OVERSHOOT * np.abs(first) - slack)

    def _damp(self, genes: Array) -> None:
        """Damp steps of these genes more, and of all others less."""
        self._damping = np.where(genes, np.maximum(4 * self._damping, 1.0), 0.25 * self._damping)
        self._damping[self._damping < NO_DAMPING] = 0

    def _visit(self, genes: LikelihoodGenes, cells: CellStates, last: Point | None, cell_steps: int = 1) -> Point:
        """Step the cells under the given genes, and sum what these need next."""
        drift = np.inf
        if last is not None:
            change = np.abs(genes.parameters - last.genes.parameters)
            drift = last.drift + float(change.sum()) / max(self._rule.n_parameters, 1)
        stale = bool(genes.parameters.size) and drift > STALE_CHANGE
        self._rule.parameters = genes.parameters
        probe = ParameterProbe(self._rule) if stale else None
        sums = self._pass(genes, cells, probe, cell_steps, check=last is None)
        if stale or last is None:
            return Point(genes, cells, sums, positive(sums.own), 0.0)
        return Point(genes, cells, sums, last.own, drift)

    def _pass(
        self, genes: LikelihoodGenes, cells: CellStates, probe: ParameterProbe | None, cell_steps: int, *, check: bool
    ) -> PassSums:
        linear, membership = genes.linear, self.data.membership
        features = LogRateFeatures.of(membership, linear.coefficients, linear.loadings, self.family, cells.dtype)

        def share(start: int, stop: int) -> PassSums:
            sums = PassSums(self.data, self.family, genes.parameters.shape[1])
            work = LikelihoodBlock(self.data, self._rule)
            for begin, end, rows in self.data.blocks(start, stop, self._block):
                work.load(begin, end, rows)
                work.arrive(cells, features, check=check)
                sums.arrival.add(work, cells)
                if cell_steps == 1:
                    step_cells(work, cells, features, self.family)
                else:
                    move_cells(work, cells, features, self.family, cell_steps)
                    work.arrive(cells, features)
                sums.gradient.add(work, cells)
                sums.curvature.add(work, cells)
                if probe is not None:
                    sums.own += probe.curvature(work, cells, features)
            return sums

        first, *others = self._pool.map_shares(share, self.data.n_cells, self._block)
        for other in others:
            first += other
        return first
