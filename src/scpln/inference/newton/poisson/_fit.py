"""Fit PLN-PCA: coefficients, loadings and the posterior of every cell."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import Threads, hold_interrupts, threads
from scpln.core import _linalg as linalg
from scpln.inference.newton._axes import independent_axes
from scpln.inference.newton._convergence import FALL, History, finite_mean, judged
from scpln.inference.newton._families import FullRank, GaussianFamily, GaussianFamilyName, MeanField
from scpln.inference.newton._genes import GeneParameters
from scpln.inference.newton._identified import identified
from scpln.inference.newton._stages import (
    AXES_CELLS,
    AXES_ITERATIONS,
    BETWEEN_STAGES,
    COARSE_CELLS,
    COARSE_RATIO,
    START_VARIANCE,
    STEPS_AFTER_ROTATION,
    STEPS_FROM_PRIOR,
)
from scpln.inference.newton._states import CellStates, start_variance
from scpln.inference.newton.prior import GenePrior, GenePriorName

from ._bound import elbo
from ._cells import precisions
from ._infer import optimize_posteriors
from ._solver import Solver
from ._start import Totals, intercept_bound, principal_scores, regress
from ._warm import with_latent

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import CountData
    from scpln.inference.newton._result import FitResult

#: Full-rank iterations that mean-field starts from.
FULL_RANK_ITERATIONS = 4


def fit(
    data: CountData,
    n_latent: int,
    *,
    posterior: GaussianFamilyName = "fullrank",
    prior: GenePriorName = "none",
    start: FitResult | None = None,
    max_iter: int = 500,
    tol: float = 1e-4,
    seed: int = 0,
    batch_size: int | None = None,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Maximise the closed-form Poisson bound of PLN-PCA over posteriors, coefficients and loadings.

    Under a prior of the loadings, these have posteriors N(C_j, S_j) during the fit, and it is the bound of counts and
    loadings together that is maximised (`history["objective"]`). The bound that is reported is that of the counts at C.

    Mean-field starts from a few full-rank iterations, in the axes in which the posteriors are most independent, since
    its own bound has spurious optima that depend on the rotation of C. Many cells start from the solution for some of
    them. An interrupt (Ctrl-C) ends the iterations and keeps what they reached.

    Parameters
    ----------
    data
        Counts, offsets and design.
    n_latent
        Latent dimensions q.
    prior
        `"learned"` for a normal prior of what genes have, learned from all of them (`GenePrior`), under which dimensions
        that explain nothing vanish; `"none"` for maximum likelihood.
    posterior
        `"fullrank"` for any Gaussian covariance per cell, `"meanfield"` for a diagonal one.
    start
        Another fit of these data, of fewer latent dimensions or of more, to start from: at its leading dimensions, or with new
        ones at the principal components of what it leaves. Without one, at those of what a regression leaves.
    max_iter
        Most iterations (passes over the data) of each stage.
    tol
        Converged when an iteration gains less than this, nats per cell, averaged over ten, or when the genes' models
        predict a gain of less than a twentieth of it, twice running.
    seed
        Of the randomised principal components that the fit starts from.
    batch_size
        Cells read at a time; as many as fit the processor's cache when None.
    n_threads
        Threads; all available ones when None.
    on_iteration
        Called with the number of accepted iterations and the mean bound per cell.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scpln.inference import CountData, fit
    >>> random = np.random.default_rng(0)
    >>> counts = random.poisson(np.exp(random.normal(size=(60, 2)) @ random.normal(size=(2, 30))))
    >>> result = fit(CountData(sp.csr_matrix(counts), np.zeros(60), np.ones((60, 1))), n_latent=2)
    >>> result.loadings.shape, result.converged
    ((30, 2), True)
    """
    with threads(n_threads) as pool:
        fitting = _Fitting(pool, prior, batch_size, max_iter, tol, on_iteration)
        solver = fitting.run(data, n_latent, posterior, seed, start)
        with hold_interrupts() as held:
            known = solver.genes.known(solver.inflation)
            stuck = optimize_posteriors(data, known, solver.cells, solver.family, pool=pool, batch_size=batch_size)
            result = identified(
                replace(known, spread=solver.genes.spread), solver.cells, solver.prior, solver.family, n_latent
            )
            b, c, mean, covariance = result.coefficients, result.loadings, result.mean, result.covariance
            covariance = linalg.nearest_definite(covariance)
            bound = elbo(data, b, c, mean, covariance, batch_size=batch_size, n_threads=n_threads)
            fitting.check(solver, finite_mean(bound))
    if not fitting.history.elbo:  # interrupted before the last stage
        fitting.history.add(finite_mean(bound), finite_mean(bound))
    converged, reason = judged(solver.converged, held.after(solver.reason), bound)
    return replace(
        result,
        covariance=covariance,
        elbo=bound,
        history=fitting.history.lists,
        converged=converged,
        reason=reason,
        stuck=stuck,
    )


@dataclass(frozen=True)
class _Fitting:
    """The stages of a fit. Each starts where the one before it ended, and none runs after an interrupt."""

    pool: Threads
    prior: GenePriorName
    batch_size: int | None
    max_iter: int
    tol: float
    on_iteration: Callable[[int, float], None] | None
    history: History = field(default_factory=History)

    def check(self, solver: Solver, bound: float) -> None:
        """Call nothing converged whose mean bound per cell is below that of a model without latent state."""
        least = intercept_bound(solver.data, solver.totals)
        if solver.converged and not bound >= least - max(self.tol, FALL * abs(least)):
            solver.converged = False
            solver.reason = (
                f"diverged: the bound, {bound:.6g} nats per cell, is below that of a model without latent state, {least:.6g} "
                f"({solver.reason})"
            )

    def run(
        self, data: CountData, n_latent: int, posterior: GaussianFamilyName, seed: int, start: FitResult | None
    ) -> Solver:
        """All stages; the solver of the last."""
        if start is not None:
            solver = self._from_fit(data, start, n_latent, seed, self._most(posterior))
            return self._mean_field(solver) if posterior == "meanfield" else solver
        if data.n_cells > COARSE_RATIO * COARSE_CELLS:
            sample = np.sort(np.random.default_rng(seed).choice(data.n_cells, COARSE_CELLS, replace=False))
            part = self._from_start(data.subset(sample, self.batch_size), n_latent, posterior, seed)
            solver = self._from_genes(data, part)
            if not solver.diverged:
                return solver
        return self._from_start(data, n_latent, posterior, seed)

    def _from_start(self, data: CountData, n_latent: int, posterior: GaussianFamilyName, seed: int) -> Solver:
        """Without parameters of other cells."""
        solver = self._from_components(data, n_latent, seed, self._most(posterior))
        return self._mean_field(solver) if posterior == "meanfield" else solver

    def _from_components(self, data: CountData, n_latent: int, seed: int, max_iter: int) -> Solver:
        """Full rank, from principal components of the residuals of a regression."""
        block = data.block_size(self.batch_size)
        totals = Totals.of(data, self.pool, block)
        coefficients = regress(data, totals, self.pool, block)
        self.history.reset()
        scores = principal_scores(data, coefficients, n_latent, seed, self.pool, block)
        genes = GeneParameters(coefficients, np.zeros((data.n_genes, n_latent)))
        family = FullRank(n_latent)
        cells = CellStates.at(scores, family, START_VARIANCE, totals.dtype)
        solver = self._solver(data, family, totals, genes, cells, GenePrior.of(self.prior, data, n_latent))
        self._iterate(solver, max_iter, first_cell_steps=0)
        return solver

    def _most(self, posterior: GaussianFamilyName) -> int:
        """Most full-rank iterations."""
        return self.max_iter if posterior == "fullrank" else min(self.max_iter, FULL_RANK_ITERATIONS)

    def _from_fit(self, data: CountData, start: FitResult, n_latent: int, seed: int, max_iter: int) -> Solver:
        """Full rank, from another fit of the same data."""
        block = data.block_size(self.batch_size)
        totals, family = Totals.of(data, self.pool, block), FullRank(n_latent)
        more = n_latent > start.loadings.shape[1]
        start = with_latent(data, start, n_latent, seed, self.pool, block)
        genes = GeneParameters(start.coefficients.astype(np.float64), start.loadings.astype(np.float64))
        cells = CellStates.from_full(start.mean, start.covariance, totals.dtype)
        self.history.reset()
        solver = self._solver(data, family, totals, genes, cells, GenePrior.of(self.prior, data, n_latent))
        self._iterate(solver, max_iter, first_cell_steps=0 if more else STEPS_AFTER_ROTATION)
        return solver

    def _mean_field(self, full_rank: Solver) -> Solver:
        """Mean-field, from a few full-rank iterations, in axes that are rotated in between."""
        data, family = full_rank.data, MeanField(full_rank.family.n_latent)
        cells = full_rank.cells
        variance = family.pack(cells.variance)
        states = CellStates(cells.mean, variance, np.log(variance).sum(1), np.ones_like(cells.step))
        solver = self._solver(data, family, full_rank.totals, full_rank.genes, states, full_rank.prior, after=full_rank)
        sample = np.unique(np.linspace(0, data.n_cells - 1, AXES_CELLS).astype(int))
        counts = data.subset(sample, self.batch_size)
        self.history.reset()
        for last_iteration in (*AXES_ITERATIONS, self.max_iter):
            if solver.interrupted or len(self.history.elbo) >= self.max_iter:
                break
            genes = solver.genes
            with hold_interrupts() as held:
                part = precisions(counts, replace(genes, spread=None), solver.cells.take(sample), solver.family)
                solver.rotate(independent_axes(part))
            if held.pressed:
                solver.interrupted, solver.reason = True, BETWEEN_STAGES
            self._iterate(solver, min(last_iteration, self.max_iter), first_cell_steps=STEPS_AFTER_ROTATION)
        return solver

    def _from_genes(self, data: CountData, part: Solver) -> Solver:
        """All cells, from parameters fitted on a part of them.

        Where the part has no count of a gene in a batch, its parameters know no limit, and rates of other cells may be
        astronomical. The fit then ends at once, as diverged.
        """
        with hold_interrupts() as held:
            totals = Totals.of(data, self.pool, data.block_size(self.batch_size))
            means = np.zeros((data.n_cells, part.family.n_latent))
            cells = CellStates.at(means, part.family, start_variance(part.genes.loadings), totals.dtype)
            solver = self._solver(data, part.family, totals, part.genes, cells, part.prior, after=part)
        if held.pressed:
            solver.interrupted, solver.reason = True, BETWEEN_STAGES
        self.history.reset()
        least = intercept_bound(data, totals)
        self._iterate(solver, self.max_iter, first_cell_steps=STEPS_FROM_PRIOR, least=least)
        return solver

    def _solver(
        self,
        data: CountData,
        family: GaussianFamily,
        totals: Totals,
        genes: GeneParameters,
        cells: CellStates,
        prior: GenePrior,
        after: Solver | None = None,
    ) -> Solver:
        solver = Solver(data, family, totals, genes, cells, prior, pool=self.pool, batch_size=self.batch_size)
        if after is not None and after.interrupted:
            solver.interrupted, solver.reason = True, after.reason
        return solver

    def _iterate(self, solver: Solver, max_iter: int, *, first_cell_steps: int, least: float | None = None) -> None:
        if not solver.interrupted:
            solver.run(
                self.history,
                max_iter=max_iter,
                tol=self.tol,
                on_iteration=self.on_iteration,
                first_cell_steps=first_cell_steps,
                least=least,
            )
