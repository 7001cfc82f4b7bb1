"""Maximise the bound of any likelihood over posteriors, coefficients, loadings and the likelihood's parameters.

An iteration proposes a Newton step of every gene, the parameter expansion and the acceleration, and passes over the
cells, in which every cell takes a Newton step. The proposal is taken unless the bound that the pass ends with is below the
one before: then cells and genes return to where they were, and the next proposal is more careful.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.newton._acceleration import SecantAcceleration
from scpln.inference.newton._convergence import (
    ACCELERATION_DEPTH,
    ACCELERATION_START,
    PATIENCE,
    PREDICTED_GAIN_FRACTION,
    has_settled,
)
from scpln.inference.newton._expansion import Expansion
from scpln.inference.newton.prior import entropy, half_way, reduced, relevant_axes

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
    from scpln.inference.newton.prior import GenePrior

#: Mean change of the likelihood's parameters after which their curvature is taken anew.
STALE_CHANGE = 0.05
#: Mean bounds that differ by less than this fraction of their precision are the same: rounding averages out over cells.
ROUNDINGS = 0.1
#: Proposals in a row that may fail before nothing is left to gain.
MAX_FAILURES = 8
#: A gene has gone too far when its slope along the step falls below this fraction of what it was.
OVERSHOOT = -0.5
#: Largest damping of a gene's step that is as good as none.
NO_DAMPING = 1e-3
#: Curvature of a gene below which nothing is known of it.
LEAST_TOTAL = 1e-6


class PassSums:
    """What a pass over the cells sums."""

    def __init__(self, data: CountData, family: GaussianFamily, n_parameters: int) -> None:
        self.gradient_before = GeneGradient(data, family, n_parameters)  # before the cells moved
        self.gradient = GeneGradient(data, family, n_parameters)
        self.curvature = GeneCurvature(data, family)
        self.parameter_curvature = np.zeros((n_parameters, data.n_genes, n_parameters))  # by γ, if it was taken

    def __iadd__(self, other: PassSums) -> PassSums:
        self.gradient_before += other.gradient_before
        self.gradient += other.gradient
        self.curvature += other.curvature
        self.parameter_curvature += other.parameter_curvature
        return self


@dataclass(frozen=True)
class Iterate:
    """Genes and cells, and what a pass over them gave."""

    genes: LikelihoodGenes
    cells: CellStates
    sums: PassSums
    parameter_curvature: Array  # curvature by γ, (g, g, p), positive definite
    parameter_change: float  # mean change of γ since it was taken
    prior: GenePrior  # of B and C

    @property
    def bound(self) -> float:
        """Mean bound per cell, nats."""
        return self.sums.gradient.bound / len(self.cells.mean)

    @property
    def penalized_bound(self) -> float:
        """The bound with the log-density of the genes' prior, per cell, nats."""
        return self.bound + self.prior.total_log_density(self.genes.linear) / len(self.cells.mean)

    @property
    def objective(self) -> float:
        """What is maximised, per cell, nats: with uncertain loadings, the bound of counts and loadings together."""
        return self.penalized_bound + entropy(self.genes.linear) / len(self.cells.mean)


class LikelihoodSolver:
    """A bound being maximised: data, current posteriors `cells` and `genes`."""

    def __init__(
        self,
        data: CountData,
        family: GaussianFamily,
        rule: Expectations,
        genes: LikelihoodGenes,
        cells: CellStates,
        prior: GenePrior,
        *,
        pool: Threads,
        batch_size: int | None,
    ) -> None:
        self.data, self.family, self._rule = data, family, rule
        self.genes, self.cells, self.prior = genes, cells, prior
        self._pool, self._block = pool, block_size(data, rule, pool.n_threads, batch_size)
        self._damping = np.zeros(data.n_genes)
        self._predicted_gains: list[float] = []  # gain per cell predicted by the genes' quadratic models, by iteration
        self.inflation: Array | float = 0.0  # by how much the loadings' spread raises log-rates of each gene, (p,)
        self.converged, self.diverged, self.interrupted, self.reason = False, False, False, ""

    def run(
        self,
        history: History,
        *,
        max_iter: int,
        tol: float,
        on_iteration: Callable[[int, float], None] | None = None,
        first_cell_steps: int = 1,
        axes: Array | None = None,
        least: float | None = None,
    ) -> None:
        """Iterate until an iteration gains less than `tol` nats per cell, averaged over the last few.

        Stop when `history` has `max_iter` entries. The first pass takes `first_cell_steps` steps per cell, after a
        rotation to `axes` if that raises the bound. If it ends with a bound below `least`, nothing is iterated, and
        `diverged` is set. An interrupt ends the iterations and leaves what they reached.
        """
        self.converged = False
        self._predicted_gains.clear()
        try:
            first = self._first(first_cell_steps, axes, history, check=least is None)
            if least is not None and not first.bound >= least:
                self.diverged = True
                return
            for iterate in self._iterations(first, max_iter - len(history.elbo)):
                self.genes, self.cells, self.prior = iterate.genes, iterate.cells, iterate.prior
                history.add(iterate.bound, iterate.objective)
                if on_iteration is not None:
                    on_iteration(len(history.elbo), iterate.bound)
                self.reason = self._convergence_reason(history, tol)
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

    def _first(self, cell_steps: int, axes: Array | None, history: History, *, check: bool) -> Iterate:
        """The first iterate: a rotation of the latent space, z → z W, must not lower the bound."""
        if axes is not None:
            variance, log_det = self.family.rotate(self.cells.variance, axes)
            mean = self.cells.mean @ axes.astype(self.cells.dtype)
            cells = replace(self.cells, mean=mean, variance=variance, log_det=log_det, step=self.cells.step.copy())
            linear = self.genes.linear.rotated(axes)
            genes = LikelihoodGenes(linear, self.genes.parameters)
            rotated = self._evaluate(genes, cells, self.prior.moved(axes), None, cell_steps, check=check)
            if rotated.bound >= history.elbo[-1]:
                return rotated
        return self._evaluate(self.genes, self.cells, self.prior, None, cell_steps, check=check)

    def _convergence_reason(self, history: History, tol: float) -> str:
        """Why the iteration has converged, or nothing when it has not; as for Poisson counts."""
        predicted_gains, bounds = self._predicted_gains[-2:], history.objective
        if (
            len(predicted_gains) == 2
            and np.isfinite(bounds[-1])
            and np.max(predicted_gains) < PREDICTED_GAIN_FRACTION * tol
        ):
            return f"converged: the predicted gain is less than {PREDICTED_GAIN_FRACTION * tol:g} nats per cell"
        if has_settled(bounds, tol):
            return f"converged: the last {PATIENCE} iterations gained less than {tol:g} nats per cell each"
        return ""

    def _iterations(self, first: Iterate, max_iter: int) -> Iterator[Iterate]:
        """Iterate, and yield each iterate that was taken, until no proposal is."""
        acceleration = SecantAcceleration(ACCELERATION_DEPTH)
        accelerating = False
        iterate: Iterate | None = first
        for iteration in range(max_iter):
            if iterate is None:
                return
            yield iterate
            if iteration == max_iter - 1:
                return
            before, smaller = iterate.bound, self._without_vanished(iterate)
            if smaller is not None:
                iterate, acceleration = smaller, SecantAcceleration(ACCELERATION_DEPTH)
                continue
            iterate = self._improve(iterate, acceleration if accelerating else None)
            if iterate is not None and iteration > 1:
                accelerating |= iterate.bound - before < ACCELERATION_START * abs(before)

    def _without_vanished(self, iterate: Iterate) -> Iterate | None:
        """The same without dimensions that explain nothing, if there are any."""
        weight = float(iterate.sums.curvature.total.sum()) / self.data.n_cells
        axes = relevant_axes(iterate.prior, self.family, weight)
        if axes is None:
            return None
        cells, linear, prior, self.family = reduced(
            iterate.cells, iterate.genes.linear, iterate.prior, self.family, axes
        )
        return self._evaluate(LikelihoodGenes(linear, iterate.genes.parameters), cells, prior, None)

    def _improve(self, iterate: Iterate, acceleration: SecantAcceleration | None) -> Iterate | None:
        """The next iterate, or none when no proposal is better than this one."""
        linear = iterate.genes.linear
        model = iterate.prior.added_to(self._model(iterate), linear.stacked)
        best = iterate.prior.best_spread(model)
        stepped = iterate.genes.at(iterate.genes.stacked + model.step(self._damping)[0]).linear
        prior = iterate.prior.learn(replace(stepped, spread=best), model)
        spread = half_way(linear.spread, best, self.family.n_latent)
        here = replace(iterate.genes, linear=replace(linear, spread=spread))
        expansion = Expansion.at(iterate.cells, self.data.design, self.family, here.linear, prior)
        prior = expansion.move_prior(prior)
        start = here.expanded(expansion)
        least = (
            iterate.bound + (prior.total_log_density(start.linear) + self._gain(iterate, spread)) / self.data.n_cells
        )
        least -= ROUNDINGS * float(np.finfo(iterate.cells.dtype).eps) * abs(least)
        self._predicted_gains.append(model.step(np.zeros_like(self._damping))[1] / self.data.n_cells)
        for _ in range(MAX_FAILURES):
            step = model.step(self._damping)[0]
            genes = here.at(here.stacked + step).expanded(expansion)
            if acceleration is not None:
                genes = genes.at(acceleration.extrapolate(here.stacked, genes.stacked, model))
            cells = replace(iterate.cells, **{k: v.copy() for k, v in vars(iterate.cells).items()})
            expansion.move_cells(cells, self.data.design, self.family)
            trial = self._evaluate(genes, cells, prior, iterate)
            far = self._too_far(iterate, start, expansion, trial)
            good = trial.penalized_bound >= least
            if acceleration is not None and not good:
                acceleration.retreat()
                acceleration = None
                continue
            if acceleration is None:
                self._damp(far if good or far.any() else ~far)
            if good:
                return trial
        return None

    def _gain(self, iterate: Iterate, spread: Array | None) -> float:
        """By how much the bound rises with other covariances of the loadings' posteriors, nats."""
        if spread is None:
            return 0.0
        old, curvature = iterate.genes.linear.spread, iterate.sums.curvature
        weighted = curvature["mean_outer"] + self.family.covariance(curvature["variance"])
        weighted *= 0.5 * linalg.inner_weights(self.family.n_latent)
        raised = np.einsum("ps,ps->p", spread, weighted)
        before = 0.0 if old is None else np.einsum("ps,ps->p", old, weighted)
        self.inflation = raised / np.maximum(curvature.total, LEAST_TOTAL)
        return float((before - raised).sum())

    def _model(self, iterate: Iterate) -> GeneModel:
        loadings = iterate.genes.linear.loadings
        gradient, linear = iterate.sums.gradient.by(loadings), iterate.sums.curvature.by(loadings)
        return gene_model(gradient, linear, iterate.parameter_curvature, self.data.design.shape[1])

    def _too_far(self, iterate: Iterate, start: LikelihoodGenes, expansion: Expansion, trial: Iterate) -> Array:
        """Genes whose part of the objective falls at the end of their change from `start`, with cells where they were, (p,)."""
        d, q = expansion.shift.shape
        change = trial.genes.stacked - start.stacked
        by_b, by_c, by_gamma = np.split(iterate.sums.gradient.by(iterate.genes.linear.loadings), [d, d + q], axis=1)
        by_c = (by_c - by_b @ expansion.shift) @ np.linalg.inv(expansion.scale).T
        first = (np.hstack([by_b, by_c, by_gamma]) * change).sum(1)
        last = (trial.sums.gradient_before.by(trial.genes.linear.loadings) * change).sum(1)
        of_prior = change[:, : d + q]
        first += (trial.prior.gradient(start.linear.stacked) * of_prior).sum(1)
        last += (trial.prior.gradient(trial.genes.linear.stacked) * of_prior).sum(1)
        slack = 1e-4 * self.data.n_cells / self.data.n_genes
        return ~(last >= OVERSHOOT * np.abs(first) - slack)

    def _damp(self, genes: Array) -> None:
        """Damp steps of these genes more, and of all others less."""
        self._damping = np.where(genes, np.maximum(4 * self._damping, 1.0), 0.25 * self._damping)
        self._damping[self._damping < NO_DAMPING] = 0

    def _evaluate(
        self,
        genes: LikelihoodGenes,
        cells: CellStates,
        prior: GenePrior,
        last: Iterate | None,
        cell_steps: int = 1,
        *,
        check: bool = False,
    ) -> Iterate:
        """Step the cells under the given genes, and sum what these need next."""
        parameter_change = np.inf
        if last is not None:
            change = np.abs(genes.parameters - last.genes.parameters)
            parameter_change = last.parameter_change + float(change.sum()) / max(self._rule.n_parameters, 1)
        stale = bool(genes.parameters.size) and parameter_change > STALE_CHANGE
        self._rule.parameters = genes.parameters
        probe = ParameterProbe(self._rule) if stale else None
        sums = self._pass(genes, cells, probe, cell_steps, check=check)
        if stale or last is None:
            return Iterate(genes, cells, sums, positive(sums.parameter_curvature), 0.0, prior)
        return Iterate(genes, cells, sums, last.parameter_curvature, parameter_change, prior)

    def _pass(
        self, genes: LikelihoodGenes, cells: CellStates, probe: ParameterProbe | None, cell_steps: int, *, check: bool
    ) -> PassSums:
        linear, membership = genes.linear, self.data.membership
        features = LogRateFeatures.of(membership, linear, self.family, cells.dtype)

        def process_chunk(start: int, stop: int) -> PassSums:
            sums = PassSums(self.data, self.family, genes.parameters.shape[1])
            cell_block = LikelihoodBlock(self.data, self._rule)
            for begin, end, rows in self.data.blocks(start, stop, self._block):
                cell_block.load(begin, end, rows)
                cell_block.update_expectations(cells, features, check=check)
                sums.gradient_before.add(cell_block, cells)
                if cell_steps == 1:
                    step_cells(cell_block, cells, features, self.family)
                else:
                    move_cells(cell_block, cells, features, self.family, cell_steps)
                    cell_block.update_expectations(cells, features)
                sums.gradient.add(cell_block, cells)
                sums.curvature.add(cell_block, cells)
                if probe is not None:
                    sums.parameter_curvature += probe.curvature(cell_block, cells, features)
            return sums

        first, *others = self._pool.map_chunks(process_chunk, self.data.n_cells, self._block)
        for other in others:
            first += other
        return first
