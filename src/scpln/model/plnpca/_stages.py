"""How PLN-PCA is trained: Gaussians by Newton's method, then, if wanted, a flow or an encoder by stochastic gradients."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.core import Held, hold_interrupts
from scpln.inference import fit_gaussians, identified_rotation, infer_gaussians, log_weights, summarize_weights
from scpln.inference.estimators import LEAST_EFFECTIVE, fit_pca_importance, pca_draws
from scpln.inference.estimators._proposals import independent_seed
from scpln.model.abilities import NOTHING_NEW
from scpln.model.base import warn_stuck
from scpln.model.pln import warn_of_weights
from scpln.module import make_likelihood
from scpln.train import Ascent, NotFiniteError
from scpln.utils import progress_bar

from ._axes import in_diagonal_axes
from ._fit import finish_shared, gaussian_module, start_shared, train_shared
from ._gene_prior import log_prior
from ._options import MAX_EPOCHS, TOLERANCE, NewtonOptions, Outcome
from ._query import fit_coefficients, store_posteriors, train_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.data import Cells
    from scpln.inference import FitResult, GaussianFamilyName, GenePriorName, StateDensity
    from scpln.module import Approximation, Growth, Likelihood, PLNPCAModule, Posterior

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


def train_by_importance(
    name: str,
    cells: Cells,
    fitted: FitResult,
    outcome: Outcome,
    options: NewtonOptions,
    n_samples: int | None,
    *,
    progress: bool,
) -> PLNPCAModule:
    """B and C at the maximum of the importance-weighted bound, from where a fit ended, with Gaussians and these bounds of the cells."""
    data = cells.data
    n_samples = pca_draws(data.n_cells) if n_samples is None else n_samples
    with progress_bar(f"{name}, importance weights", options.max_epochs, at_most=True, show=progress) as bar:
        refined = fit_pca_importance(
            data,
            fitted.coefficients,
            fitted.loadings,
            n_samples=n_samples,
            seed=options.seed,
            max_iter=options.max_epochs,
            tol=options.tol,
            n_threads=options.n_threads,
            on_iteration=bar.update,
        )
        bar.finish(refined.reason)
    with hold_interrupts() as held:
        loadings = refined.loadings @ identified_rotation(refined.loadings)
        likelihood, stuck = make_likelihood("poisson", data.n_genes), partial(warn_stuck, names=cells.names)
        settings: dict[str, Any] = {"posterior": "fullrank", "rotation": np.eye(loadings.shape[1]), "on_stuck": stuck}
        given = data, refined.coefficients, loadings, likelihood
        mean, covariance = infer_gaussians(*given, n_threads=options.n_threads, **settings)
        found = replace(fitted, coefficients=refined.coefficients, loadings=loadings, mean=mean, covariance=covariance)
        module = gaussian_module(found, likelihood, None)
        bounds, ess = weighted_bounds(
            module, data, module.posterior(), n_samples, options.seed, None, options.n_threads
        )
        module.set_cells(mean, covariance, bounds)
    outcome.converged &= refined.converged
    outcome.reason = held.after(f"{outcome.reason}; {refined.reason}")
    outcome.history |= {
        "importance_bound": refined.history["elbo"],
        "importance_seconds": refined.history["seconds"],
    }
    low = float((ess * n_samples < LEAST_EFFECTIVE).mean())
    summary = {"ess": float(ess.mean()), "low_ess": low, "bound_samples": n_samples}
    outcome.options |= summary
    warn_of_weights(summary)
    return module


def weighted_bounds(
    module: PLNPCAModule,
    data: CountData,
    posterior: Posterior,
    n_samples: int,
    seed: int,
    positions: NDArray[np.intp] | None,
    n_threads: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Importance-weighted bound of each cell, nats, and its effective sample size as a share of the draws, which are not those of the fit, (n,) each."""
    bounds, ess = np.empty(data.n_cells), np.empty(data.n_cells)
    settings: dict[str, Any] = {"n_samples": n_samples, "seed": independent_seed(seed), "positions": positions}
    for cells, weights in log_weights(data, module.generative, posterior, n_threads=n_threads, **settings):
        summary = summarize_weights(weights)
        bounds[cells], ess[cells] = summary.iw_bound, summary.ess
    return bounds, ess


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
