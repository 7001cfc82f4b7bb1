"""How PLN-PCA learns what is new about mapped cells: coefficients by Newton's method, inputs of an encoder by gradients."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch

from scpln.core import hold_interrupts
from scpln.inference import CoefficientPrior, ColumnFit, fit_columns
from scpln.model.abilities import as_prior
from scpln.module import Generative, GrownTraining, LinearDecoder, VAEModule
from scpln.train import Ascent, Minibatches, NotFiniteError, ascend, torch_random, torch_threads
from scpln.utils import warn

from ._fit import infer_posterior, linear_parameters, store

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.data import Cells
    from scpln.inference import GaussianFamilyName, StateDensity
    from scpln.module import Batch, Growth, PLNPCAModule

    from ._options import GradientOptions, NewtonOptions

#: Of coefficients that cannot be told from composition: most overlap with the reference, and least shift of the states.
OVERLAP, SHIFT = 0.5, 0.5


def fit_coefficients(
    module: PLNPCAModule,
    data: CountData,
    growth: Growth,
    family: GaussianFamilyName,
    options: NewtonOptions,
    density: StateDensity | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> ColumnFit:
    """Set new coefficients of PLN-PCA to their optimum under Gaussian posteriors; also those that a flow starts from.

    The density of states is in the coordinates of the module's loadings, as are its posteriors.
    """
    axes = module.rotation if module.approximation is None else module.approximation.frame
    fits = []
    for generative in (module.generative, module.reference):
        if generative is None:
            continue
        start, loadings = linear_parameters(generative)
        start = start.copy()
        start[:, growth.is_new] = growth.average(start, is_count=generative.likelihood.is_count)
        fit = fit_columns(
            data,
            start,
            loadings,
            generative.likelihood,
            growth.is_new,
            density=density if density is None or generative is module.generative else density.turned(axes.numpy()),
            posterior=family,
            rotation=axes.numpy(),
            max_iter=options.max_epochs,
            tol=options.tol,
            batch_size=options.block_size,
            n_threads=options.n_threads,
            on_iteration=on_step,
        )
        cast("torch.Tensor", generative.decoder.coefficients).copy_(torch.from_numpy(fit.coefficients))
        fits.append(fit)
    _warn_if_confounded(fits[0])
    return fits[0]


def _warn_if_confounded(fit: ColumnFit) -> None:
    """Say if what was learned moves the cells far, and their composition is another than the reference's."""
    if fit.overlap < OVERLAP and fit.shift > SHIFT:
        warn(
            "The coefficients of the new categories cannot be told from the composition of their cells, which share "
            f"{100 * fit.overlap:.0f} % of the reference's: they move all latent states by {fit.shift:.1f} times the distance "
            "between neighbouring groups of the reference's cells, as another composition would, too. Check the labels that "
            "follow by markers, or map cells of more types together."
        )


def train_inputs(
    module: PLNPCAModule,
    data: CountData,
    growth: Growth,
    prior: CoefficientPrior,
    options: GradientOptions,
    density: StateDensity | None,
    n_threads: int | None,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[Ascent, NotFiniteError | None]:
    """Train what an encoder of PLN-PCA makes of new categories, and their coefficients under its posteriors.

    Also what it failed with, if it did; what was reached is in the module.
    """
    approximation = module.approximation
    assert approximation is not None
    decoder = LinearDecoder(module.coefficients, module.loadings @ approximation.frame.T)
    prior_of_states = None if density is None else as_prior(density.turned(approximation.frame.numpy()))
    generative = Generative(decoder, copy.deepcopy(module.generative.likelihood), prior_of_states).float()
    vae = VAEModule(generative, approximation, data.n_cells)
    vae.n_samples = options.n_samples
    training = GrownTraining(vae, growth, prior.mean, prior.spread)

    def step(cells: NDArray[np.intp], batch: Batch) -> torch.Tensor:
        output = training.loss(batch)
        output.value.backward()
        return -output.of_cells

    batches, failure = Minibatches(data, options.batch_size, seed=options.seed), None
    settings: dict[str, Any] = {"n_steps": options.n_steps, "learning_rate": options.learning_rate, "on_step": on_step}
    with torch_random(options.seed), torch_threads(n_threads or 1):
        try:
            ascent = ascend(step, training, batches, **settings)
        except NotFiniteError as error:
            ascent, failure = error.ascent, error
    training.write_to_module()
    module.coefficients[:, growth.is_new] = decoder.coefficients[:, growth.is_new].double()
    return ascent, failure


def store_posteriors(module: PLNPCAModule, cells: Cells, family: GaussianFamilyName, n_threads: int | None) -> bool:
    """Infer the posteriors of all cells, and keep them, as `store` does."""
    with hold_interrupts() as held:
        posterior = infer_posterior(module, cells.data, family, names=cells.names, n_threads=n_threads)
    return store(module, cells.data, posterior, n_threads) and not held.pressed
