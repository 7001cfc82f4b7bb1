"""Fit PLN-PCA under any likelihood, from a fit under the Poisson likelihood."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import Threads, hold_interrupts, threads
from scpln.core import _linalg as linalg
from scpln.inference.expectations import expectations_of, read_parameters, write_parameters
from scpln.inference.newton._axes import independent_axes
from scpln.inference.newton._convergence import History, finite_mean, judged
from scpln.inference.newton._families import FAMILIES, GaussianFamily, GaussianFamilyName, MeanField
from scpln.inference.newton._identified import identified
from scpln.inference.newton._stages import (
    AXES_ITERATIONS,
    BETWEEN_STAGES,
    COARSE_CELLS,
    COARSE_RATIO,
    STEPS_AFTER_ROTATION,
    STEPS_FROM_PRIOR,
)
from scpln.inference.newton._states import CellStates, start_variance
from scpln.inference.newton.prior import GenePrior, GenePriorName
from scpln.train import torch_threads

from ._bound import elbo_likelihood
from ._genes import LikelihoodGenes
from ._infer import n_nodes, optimize_posteriors_likelihood, precision, precisions
from ._solver import LikelihoodSolver
from ._start import cells_for_axes, expected_counts, require_fit_of, starting_point

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, CountData, DType
    from scpln.inference.newton._genes import GeneParameters
    from scpln.inference.newton._result import FitResult
    from scpln.module import Likelihood

#: Nodes while the bound is maximised.
FIT_NODES = 7


def fit_likelihood(
    data: CountData,
    start: FitResult,
    likelihood: Likelihood,
    *,
    posterior: GaussianFamilyName = "fullrank",
    prior: GenePriorName = "none",
    max_iter: int = 500,
    tol: float = 1e-4,
    seed: int = 0,
    batch_size: int | None = None,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Maximise the bound of PLN-PCA under any likelihood over posteriors, coefficients, loadings and its parameters.

    The likelihood's parameters start at moments of the data around what `start` expects, and are updated in place. The
    result is never worse than `start` with these. An interrupt (Ctrl-C) ends the iterations and keeps what they reached.

    Parameters
    ----------
    data
        Counts, offsets and design.
    start
        A fit of the same data, under the Poisson likelihood, or, for Gaussian observations, by `start_gaussian`.
    likelihood
        Distribution of the counts given their log-rates.
    posterior
        `"fullrank"` for any Gaussian covariance per cell, `"meanfield"` for a diagonal one.
    max_iter
        Most iterations (passes over the data) of each stage.
    tol
        Converged when an iteration gains less than this, nats per cell, averaged over ten, or when the genes' models
        predict a gain of less than a twentieth of it, twice running.
    seed
        Of the cells that many cells are first fitted on.
    batch_size
        Cells read at a time, at most.
    n_threads
        Threads; all available ones when None.
    on_iteration
        Called with the number of accepted iterations and the mean bound per cell.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scpln.inference import CountData, fit, fit_likelihood
    >>> from scpln.module import make_likelihood
    >>> random = np.random.default_rng(0)
    >>> rates = np.exp(random.normal(size=(60, 2)) @ random.normal(size=(2, 30))) * random.gamma(2, 0.5, size=(60, 30))
    >>> data = CountData(sp.csr_matrix(random.poisson(rates)), np.zeros(60), np.ones((60, 1)))
    >>> poisson, likelihood = fit(data, n_latent=2), make_likelihood("nb", 30)
    >>> result = fit_likelihood(data, poisson, likelihood)
    >>> result.converged, bool(result.elbo.mean() > poisson.elbo.mean())
    (True, True)
    """
    require_fit_of(data, start, likelihood)
    with threads(n_threads) as pool, torch_threads(1):
        with hold_interrupts() as held:
            if likelihood.is_count:
                likelihood.initialise(expected_counts(data, start))
            family, dtype = FAMILIES[posterior](start.loadings.shape[1]), precision(data, likelihood, pool)
            options = Options(pool, batch_size, n_threads, max_iter, tol, on_iteration)
            fitting = _LikelihoodFitting(likelihood, family, prior, dtype, options)
            genes, cells, least = fitting.initialize(data, start)
        solver = fitting.stopped(data, genes, cells) if held.pressed else fitting.run(data, genes, cells, least, seed)
        with hold_interrupts() as held:
            result = fitting.result(data, solver)
            if not finite_mean(result.elbo) >= least - tol and not solver.prior.learned:
                cells = fitting.initialize(data, start)[1]
                result = fitting.result(data, fitting.stopped(data, genes, cells))
                solver.converged, solver.reason = False, f"the start is better than the end ({solver.reason})"
    history = fitting.history
    if not history.elbo:  # interrupted before the last stage
        history.add(finite_mean(result.elbo), finite_mean(result.elbo))
    converged, reason = judged(solver.converged, held.after(solver.reason), result.elbo)
    return replace(
        result,
        history=history.lists,
        converged=converged,
        reason=reason,
    )


@dataclass(frozen=True)
class Options:
    """How a fit is run."""

    pool: Threads
    batch_size: int | None
    n_threads: int | None
    max_iter: int
    tol: float
    on_iteration: Callable[[int, float], None] | None


@dataclass(frozen=True)
class _LikelihoodFitting:
    """The stages of a fit. Each starts where the one before it ended, and none runs after an interrupt."""

    likelihood: Likelihood
    family: GaussianFamily
    prior: GenePriorName
    dtype: DType
    options: Options
    history: History = field(default_factory=History)

    def initialize(self, data: CountData, start: FitResult) -> tuple[LikelihoodGenes, CellStates, float]:
        """Genes and cells of another fit, and their mean bound per cell."""
        linear, cells = starting_point(data, start, self.family, self.dtype)
        genes = LikelihoodGenes(linear, read_parameters(self.likelihood))
        known, covariance = self._known(genes), self.family.covariance(cells.variance)
        bound = self.bound(data, known.coefficients, known.loadings, cells.mean, covariance)
        return genes, cells, finite_mean(bound)

    def stopped(self, data: CountData, genes: LikelihoodGenes, cells: CellStates) -> LikelihoodSolver:
        """A solver that was interrupted before its first iteration."""
        solver = self._solver(data, genes, cells)
        solver.interrupted, solver.reason = True, BETWEEN_STAGES
        return solver

    def run(
        self, data: CountData, genes: LikelihoodGenes, cells: CellStates, least: float, seed: int
    ) -> LikelihoodSolver:
        """All stages, from where the mean bound per cell is `least`; the solver of the last."""
        if data.n_cells > COARSE_RATIO * COARSE_CELLS:
            sample = np.sort(np.random.default_rng(seed).choice(data.n_cells, COARSE_CELLS, replace=False))
            part = self._from_posteriors(data.subset(sample, self.options.batch_size), genes, cells.take(sample))
            solver = self._from_genes(data, part, least)
            if not solver.diverged:
                return solver
        return self._from_posteriors(data, genes, cells)

    def _from_posteriors(self, data: CountData, genes: LikelihoodGenes, cells: CellStates) -> LikelihoodSolver:
        """From genes and posteriors; the axes of mean-field are rotated a few times in between."""
        solver, max_iter = self._solver(data, genes, cells), self.options.max_iter
        self.history.reset()
        rotation_iterations = AXES_ITERATIONS if isinstance(self.family, MeanField) else ()
        self._iterate(solver, min((*rotation_iterations, max_iter)), first_cell_steps=1)
        for last_iteration in (*rotation_iterations, max_iter)[1:]:
            if solver.interrupted or len(self.history.elbo) >= max_iter:
                break
            with hold_interrupts() as held:
                axes = self._independent_axes(solver)
            if held.pressed:
                solver.interrupted, solver.reason = True, BETWEEN_STAGES
            else:
                self._iterate(solver, min(last_iteration, max_iter), first_cell_steps=STEPS_AFTER_ROTATION, axes=axes)
        return solver

    def _from_genes(self, data: CountData, part: LikelihoodSolver, least: float) -> LikelihoodSolver:
        """All cells, from parameters fitted on a part of them, unless these start below `least`."""
        means = np.zeros((data.n_cells, part.family.n_latent))
        cells = CellStates.at(means, part.family, start_variance(part.genes.linear.loadings), self.dtype)
        solver = self._solver(data, part.genes, cells, part.prior, part.family)
        self.history.reset()
        if part.interrupted:
            solver.interrupted, solver.reason = True, part.reason
        else:
            self._iterate(solver, self.options.max_iter, first_cell_steps=STEPS_FROM_PRIOR, least=least)
        return solver

    def _solver(
        self,
        data: CountData,
        genes: LikelihoodGenes,
        cells: CellStates,
        prior: GenePrior | None = None,
        family: GaussianFamily | None = None,
    ) -> LikelihoodSolver:
        prior, family = prior or GenePrior.of(self.prior, data, self.family.n_latent), family or self.family
        nodes = n_nodes(self.likelihood, FIT_NODES)
        rule = expectations_of(self.likelihood, nodes, self.dtype, requires_grad=True, centred=True)
        options = self.options
        return LikelihoodSolver(
            data, family, rule, genes, cells, prior, pool=options.pool, batch_size=options.batch_size
        )

    def _iterate(
        self,
        solver: LikelihoodSolver,
        max_iter: int,
        *,
        first_cell_steps: int,
        axes: Array | None = None,
        least: float | None = None,
    ) -> None:
        solver.run(
            self.history,
            max_iter=max_iter,
            tol=self.options.tol,
            on_iteration=self.options.on_iteration,
            first_cell_steps=first_cell_steps,
            axes=axes,
            least=least,
        )

    def _independent_axes(self, solver: LikelihoodSolver) -> Array:
        """Axes in which the cells' full-rank posteriors are most independent."""
        sample = cells_for_axes(solver.data)
        data = solver.data.subset(sample, self.options.batch_size)
        genes = replace(solver.genes, linear=self._known(solver.genes))
        return independent_axes(precisions(data, genes, solver.cells.take(sample), solver.family, self.likelihood))

    def _known(self, genes: LikelihoodGenes, inflation: Array | float = 0.0) -> GeneParameters:
        """Coefficients of log-rates, from those of the logarithms of expected counts; sets the likelihood's parameters."""
        write_parameters(self.likelihood, genes.parameters)
        return genes.linear.known(inflation - self.likelihood.log_mean_offset().detach().double().numpy())

    def result(self, data: CountData, solver: LikelihoodSolver) -> FitResult:
        """Result in the identified rotation, with posteriors at their optimum; sets the likelihood's parameters."""
        options, genes, cells, family = self.options, solver.genes, solver.cells, solver.family
        known = self._known(genes, solver.inflation if self.likelihood.is_count else 0.0)
        stuck = optimize_posteriors_likelihood(
            data, known, cells, family, self.likelihood, pool=options.pool, batch_size=options.batch_size
        )
        result = identified(
            replace(known, spread=genes.linear.spread), cells, solver.prior, family, self.family.n_latent
        )
        covariance = linalg.nearest_definite(result.covariance)
        bound = self.bound(data, result.coefficients, result.loadings, result.mean, covariance, check=False)
        return replace(result, covariance=covariance, elbo=bound, stuck=stuck)

    def bound(
        self,
        data: CountData,
        coefficients: Array,
        loadings: Array,
        mean: Array,
        covariance: Array,
        *,
        check: bool = True,
    ) -> Array:
        """Bound of every cell; an error where one is not finite, if that is checked."""
        return elbo_likelihood(
            data,
            coefficients,
            loadings,
            self.likelihood,
            mean,
            covariance,
            check=check,
            batch_size=self.options.batch_size,
            n_threads=self.options.n_threads,
        )
