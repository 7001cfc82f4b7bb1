"""Maximise the closed-form Poisson bound over posteriors, coefficients and loadings.

An iteration is one pass over the cells, in which every cell takes a Newton step and the sums that genes need are
taken at the new posteriors, followed by a Newton step of every gene, the parameter expansion, and the
acceleration. The pass is all that reads the data.
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
    History,
    has_settled,
)
from scpln.inference.newton._expansion import Expansion
from scpln.inference.newton._genes import GeneModel, GeneParameters
from scpln.inference.newton.prior import entropy, half_way, reduced, relevant_axes

from ._block import GeneFeatures, RateBlock
from ._cells import move_cells
from ._statistics import GeneStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scpln.core import Array, CountData, Threads
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._states import CellStates
    from scpln.inference.newton.prior import GenePrior

    from ._start import Totals

#: Bounds that differ by less than this fraction are the same: the rounding of rates in float32.
ROUNDING = 1e-6
#: Expected counts of a gene below which nothing is known of it.
LEAST_TOTAL = 1e-6


@dataclass(frozen=True)
class Baseline:
    """What a gene's step must improve on: its parameters, its part of the bound, and Σ y m, before the step."""

    genes: GeneParameters
    bound: Array
    count_mean: Array


class Solver:
    """A bound being maximised: data, current posteriors `cells` and parameters `genes`."""

    def __init__(
        self,
        data: CountData,
        family: GaussianFamily,
        totals: Totals,
        genes: GeneParameters,
        cells: CellStates,
        prior: GenePrior,
        *,
        pool: Threads,
        batch_size: int | None,
    ) -> None:
        self.data, self.family, self.totals = data, family, totals
        self.genes, self.cells, self.prior = genes, cells, prior
        self._pool, self._block = pool, data.block_size(batch_size)
        self._constant = float(totals.constant.sum())
        self._damping = np.zeros(data.n_genes)
        self._fallback: GeneParameters | None = None  # where to return to if an extrapolation failed
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
        least: float | None = None,
    ) -> None:
        """Iterate until an iteration gains less than `tol` nats per cell, averaged over the last few.

        Stop when `history` has `max_iter` entries.

        The first pass takes `first_cell_steps` steps per cell: none where loadings are still zero, many where posteriors
        are far from those of the parameters. If it ends with a bound below `least`, the parameters are no start for these cells:
        nothing is iterated, and `diverged` is set. An interrupt ends the iterations and leaves what they reached.
        """
        self.converged = False
        self._predicted_gains.clear()
        try:
            for bound, objective in self._iterations(max_iter - len(history.elbo), first_cell_steps):
                if least is not None and not history.elbo and not bound >= least:
                    self.diverged = True
                    return
                history.add(bound, objective)
                if on_iteration is not None:
                    on_iteration(len(history.elbo), bound)
                self.reason = self._convergence_reason(history, tol)
                if self.reason:
                    self.converged = True
                    return
            self.reason = f"stopped after {max_iter} iterations, the maximum, before convergence"
        except KeyboardInterrupt:
            self.interrupted = True
            self.genes = self._fallback or self.genes
            self.reason = f"interrupted after {len(history.elbo)} iterations; what they reached is kept"

    def rotate(self, axes: Array) -> None:
        """Rotate the latent space by W, z → z W. A family that cannot follow comes as near as it can."""
        dtype = self.cells.dtype
        self.cells.mean[...] = self.cells.mean @ axes.astype(dtype)
        self.cells.variance[...], self.cells.log_det[...] = self.family.rotate(self.cells.variance, axes)
        self.genes = self.genes.rotated(axes)
        self.prior = self.prior.moved(axes)

    def _iterations(self, max_iter: int, first_cell_steps: int) -> Iterator[tuple[float, float]]:
        """Iterate, and yield mean bound and objective per cell whenever the bound with the log-prior did not fall."""
        acceleration = SecantAcceleration(ACCELERATION_DEPTH)
        accelerating, baseline, least = False, None, -np.inf
        for iteration in range(max_iter):
            statistics = self._pass(first_cell_steps if iteration == 0 else 1)
            gene_bounds = self.genes.bound(self.totals.count_design, statistics)
            bound = float(gene_bounds.sum() - statistics.divergence + self._constant)
            penalized = bound + self.prior.total_log_density(self.genes)
            if self._fallback is not None and not penalized >= least - ROUNDING * abs(least):
                acceleration.retreat()
                self.genes, self._fallback, baseline = self._fallback, None, None
                continue
            small = iteration > 2 and penalized - least < ACCELERATION_START * abs(penalized)
            accelerating = accelerating or small
            self._fallback = None
            yield bound / self.data.n_cells, (penalized + entropy(self.genes)) / self.data.n_cells
            if iteration == max_iter - 1:
                return
            if self._drop_vanished(statistics):
                acceleration, baseline, least = SecantAcceleration(ACCELERATION_DEPTH), None, -np.inf
                continue
            baseline, density = self._step_genes(
                statistics, gene_bounds, baseline, acceleration if accelerating else None
            )
            least = bound + density

    def _convergence_reason(self, history: History, tol: float) -> str:
        """Why the iteration has converged, or nothing when it has not.

        Small gains alone would also be met on a plateau: either many of them, or a vanishing gradient, decide.
        """
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

    def _pass(self, cell_steps: int) -> GeneStatistics:
        """Step every cell and sum what the genes need."""
        genes, membership = self.genes, self.data.membership
        features = GeneFeatures.of(membership, genes, self.family, self.cells.dtype)

        def process_chunk(start: int, stop: int) -> GeneStatistics:
            statistics = GeneStatistics(self.data, self.family)
            cell_block = RateBlock(self._block, self.data, self.family, self.cells.dtype)
            for begin, end, rows in self.data.blocks(start, stop, self._block):
                cell_block.load(begin, end, rows)
                cell_block.update_expectations(self.cells, features)
                statistics.rates_before += cell_block.rates.sum(0)
                move_cells(cell_block, self.cells, features, self.family, cell_steps)
                statistics.add(cell_block, self.cells, self.family)
            return statistics

        first, *others = self._pool.map_chunks(process_chunk, self.data.n_cells, self._block)
        for other in others:
            first += other
        return first

    def _step_genes(
        self,
        statistics: GeneStatistics,
        bounds: Array,
        baseline: Baseline | None,
        acceleration: SecantAcceleration | None,
    ) -> tuple[Baseline | None, float]:
        """Step every gene. Return what the step must improve on, without extrapolation, and what to add to the bound."""
        count_design, d = self.totals.count_design, self.data.design.shape[1]
        model = GeneModel.of(self.genes, count_design, statistics, self.family)
        model = self.prior.added_to(model, self.genes.stacked)
        failed = self._failed(statistics, baseline)
        self._damping = np.where(failed, np.maximum(4 * self._damping, 1.0), 0.25 * self._damping)
        self._damping[self._damping < 1e-3] = 0
        step, predicted_gain = model.step(self._damping)
        self._predicted_gains.append(predicted_gain / self.data.n_cells)
        start = self.genes.stacked
        if baseline is not None and failed.any():
            before = baseline.genes.stacked[failed]
            start[failed], step[failed] = before, 0.25 * (start[failed] - before)
        best = self.prior.best_spread(model)
        moved = GeneParameters.unstacked(start + step, d, best)
        prior = self.prior.learn(moved, model)
        spread = half_way(self.genes.spread, best, self.family.n_latent)
        by_spread = self._gain(spread, statistics)
        moved, here = replace(moved, spread=spread), replace(self.genes, spread=spread)

        expansion = Expansion.at(self.cells, self.data.design, self.family, moved, prior)
        self.prior = expansion.move_prior(prior)
        expansion.move_cells(self.cells, self.data.design, self.family)
        image, old = expansion.move_genes(moved), expansion.move_genes(here)
        density = float(self.prior.total_log_density(old) + by_spread.sum())
        if acceleration is not None:
            extrapolated = acceleration.extrapolate(self.genes.stacked, image.stacked, model)
            self.genes, self._fallback = GeneParameters.unstacked(extrapolated, d, image.spread), image
            return None, density
        count_mean = expansion.move_count_mean(statistics.count_mean, count_design)
        self.genes = image
        return Baseline(old, np.where(failed, -np.inf, bounds + by_spread), count_mean), density

    def _gain(self, spread: Array | None, statistics: GeneStatistics) -> Array:
        """By how much each gene's part of the bound rises with other covariances of the loadings' posteriors, (p,)."""
        if spread is None:
            return np.zeros(self.data.n_genes)
        weighted = statistics["mean_outer"] + self.family.covariance(statistics["variance"])
        weighted *= 0.5 * linalg.inner_weights(self.family.n_latent)
        raised = np.einsum("ps,ps->p", spread, weighted)
        before = 0.0 if self.genes.spread is None else np.einsum("ps,ps->p", self.genes.spread, weighted)
        self.inflation = raised / np.maximum(statistics.total, LEAST_TOTAL)
        gain: Array = before - raised
        return gain

    def _drop_vanished(self, statistics: GeneStatistics) -> bool:
        """Whether there were dimensions that explain nothing, which are then left out."""
        axes = relevant_axes(self.prior, self.family, float(statistics.total.sum()) / self.data.n_cells)
        if axes is None:
            return False
        self.cells, self.genes, self.prior, self.family = reduced(self.cells, self.genes, self.prior, self.family, axes)
        return True

    def _failed(self, statistics: GeneStatistics, baseline: Baseline | None) -> NDArray[np.bool_]:
        """Genes whose last step lowered their part of the bound, (p,)."""
        if baseline is None:
            return np.zeros(self.data.n_genes, bool)
        reached = self.genes.linear(self.totals.count_design, baseline.count_mean) - statistics.rates_before
        reached += self.prior.log_density(self.genes) - self.prior.log_density(baseline.genes)
        return ~(reached >= baseline.bound - 1e-3 - ROUNDING * statistics.rates_before)
