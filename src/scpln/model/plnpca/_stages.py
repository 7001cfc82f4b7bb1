"""How PLN-PCA is trained: Gaussians by Newton's method, then, if wanted, a flow or an encoder by stochastic gradients."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING

from scpln.core import Held
from scpln.inference import fit_gaussians
from scpln.model.abilities import NOTHING_NEW
from scpln.model.base import warn_stuck
from scpln.train import Ascent, NotFiniteError
from scpln.utils import progress_bar

from ._axes import in_diagonal_axes
from ._fit import finish_shared, gaussian_module, start_shared, train_shared
from ._gene_prior import log_prior
from ._options import MAX_EPOCHS, TOLERANCE, NewtonOptions, Outcome
from ._query import fit_coefficients, store_posteriors, train_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.data import Cells
    from scpln.inference import FitResult, GaussianFamilyName, GenePriorName, StateDensity
    from scpln.module import Approximation, Growth, Likelihood, PLNPCAModule

    from ._options import GradientOptions
    from ._plnpca import PLNPCA


def train_gaussians(
    name: str,
    cells: Cells,
    n_latent: int,
    likelihood: Likelihood,
    family: GaussianFamilyName,
    options: NewtonOptions,
    prior: GenePriorName,
    make_approximation: Callable[[], Approximation | None],
    *,
    progress: bool,
    start: FitResult | None = None,
) -> tuple[PLNPCAModule, Outcome, FitResult]:
    """Fit B, C and the cells' Gaussians: the module, with a flow or an encoder that is not trained yet, and how it went."""
    with progress_bar(f"{name}, {family} Gaussians", options.max_epochs, at_most=True, show=progress) as bar:
        result = fit_gaussians(
            cells.data,
            n_latent,
            likelihood,
            posterior=family,
            prior=prior,
            start=start,
            max_iter=options.max_epochs,
            tol=options.tol,
            seed=options.seed,
            batch_size=options.block_size,
            n_threads=options.n_threads,
            on_iteration=bar.update,
            on_stage=bar.stage,
        )
        bar.finish(result.reason)
    warn_stuck(result.stuck, len(cells.names), cells.names)
    outcome = Outcome(result.converged, result.reason, asdict(options), dict(result.history))
    approximation = None if result.interrupted else make_approximation()
    outcome.options["n_latent_kept"] = result.n_kept
    if approximation is not None:
        result = in_diagonal_axes(result)
    return gaussian_module(result, likelihood, approximation), outcome, result


def train_from(model: PLNPCA, start: FitResult, *, seed: int, n_threads: int | None, progress: bool) -> None:
    """Train a model of Gaussians alone from another fit of the same cells."""
    cells, options = model._read(None), NewtonOptions(MAX_EPOCHS, TOLERANCE, None, seed, n_threads)
    of_model = model.n_latent, model._new_likelihood(), model._gaussian_family, options, model.prior
    module, outcome, _ = train_gaussians(
        type(model).__name__, cells, *of_model, lambda: None, progress=progress, start=start
    )
    model._conclude(cells, module, outcome, options)


def train_approximation_of(
    name: str,
    cells: Cells,
    module: PLNPCAModule,
    options: GradientOptions,
    fitted: FitResult,
    n_threads: int | None,
    *,
    progress: bool,
) -> tuple[Ascent, NotFiniteError | None]:
    """Train a flow or an encoder, and what it failed with, if it did; what was reached is in the module."""
    assert module.approximation is not None
    encodes, failure = module.approximation.encodes, None
    try:
        with progress_bar(
            f"{name}, learning the Gaussians (−KL)", options.n_steps, unit="step", show=progress and encodes
        ) as bar:
            ascent = start_shared(cells.data, module, options, n_threads, bar.update)
            bar.finish(ascent.reason)
        if not ascent.interrupted:
            with progress_bar(name, options.n_steps, unit="step", show=progress) as bar:
                ascent = train_shared(cells.data, module, options, log_prior(fitted), n_threads, bar.update)
                bar.finish(ascent.reason)
    except NotFiniteError as error:
        if len(error.cells):
            error.add_note(f"These cells are {cells.names[error.cells[:5]].to_list()}.")
        ascent, failure = error.ascent, error
    except KeyboardInterrupt:  # between the steps
        ascent = Ascent(interrupted=True)
    if not finish_shared(cells.data, module, n_threads):
        ascent.interrupted = True
    return ascent, failure


def train_on_reference(
    name: str,
    cells: Cells,
    module: PLNPCAModule,
    growth: Growth,
    density: StateDensity | None,
    family: GaussianFamilyName,
    newton: NewtonOptions,
    gradient: GradientOptions,
    *,
    progress: bool,
) -> tuple[PLNPCAModule, Outcome]:
    """Learn what is new about cells that were mapped onto a reference, and their posteriors, in a copy of the module."""
    module = copy.deepcopy(module)
    growth.restart(module)
    outcome = Outcome(True, NOTHING_NEW, asdict(newton), {})
    if growth.is_new.any():
        with progress_bar(name, newton.max_epochs, at_most=True, show=progress) as bar:
            fit = fit_coefficients(module, cells.data, growth, family, newton, density, bar.update)
            bar.finish(fit.reason)
        outcome = Outcome(fit.converged, fit.reason, asdict(newton), dict(fit.history))
        if module.encodes and not fit.interrupted:
            with progress_bar(f"{name} and inputs", gradient.n_steps, unit="step", show=progress) as bar:
                settings = gradient, density, newton.n_threads, bar.update
                ascent, failure = train_inputs(module, cells.data, growth, fit.prior, *settings)
                bar.finish(ascent.reason)
            outcome.add_stochastic(ascent, failure, gradient)
    if not store_posteriors(module, cells, family, newton.n_threads):
        outcome.reason = Held(pressed=True).after(outcome.reason)
    return module, outcome
