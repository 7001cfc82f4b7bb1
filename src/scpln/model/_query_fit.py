"""How what is new about mapped cells is learned: coefficients by Newton's method, inputs of networks by gradients."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scpln.inference import (
    Ascent,
    CoefficientPrior,
    ColumnFit,
    Minibatches,
    NotFiniteError,
    ascend,
    fit_columns,
    torch_threads,
)
from scpln.module import FlowPosterior, GaussianPosterior, Generative, GrownTraining, LinearDecoder, VAEModule

from ._plnpca_fit import bound, infer_posterior

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.inference import CountData
    from scpln.inference import Posterior as GaussianFamily
    from scpln.module import AutoencoderModule, Batch, Growth, PLNPCAModule

    from ._plnpca_fit import GradientOptions, NewtonOptions
    from ._training_plan import TrainingOptions

#: Added to total counts, so that a gene without any has a finite estimate.
_PSEUDO_COUNT = 0.5
#: Steps of an autoencoder that suffice for what is new about mapped cells, and fewest epochs.
_STEPS, _FEWEST_EPOCHS = 400, 2


def fit_coefficients(
    module: PLNPCAModule,
    data: CountData,
    growth: Growth,
    family: GaussianFamily,
    options: NewtonOptions,
    on_step: Callable[[int, float], None] | None = None,
) -> ColumnFit:
    """Set new coefficients of PLN-PCA to their optimum under Gaussian posteriors; also those that a flow starts from."""
    axes = module.rotation if module.approximation is None else module.approximation.frame
    fits = []
    for generative in (module.generative, module.reference):
        if generative is None:
            continue
        start = generative.decoder.coefficients.numpy().copy()
        start[:, growth.is_new] = growth.average(start, is_count=generative.likelihood.is_count)
        fit = fit_columns(
            data,
            start,
            generative.decoder.loadings.numpy(),
            generative.likelihood,
            growth.is_new,
            posterior=family,
            rotation=axes.numpy(),
            max_iter=options.max_epochs,
            tol=options.tol,
            batch_size=options.batch_size,
            n_threads=options.n_threads,
            on_iteration=on_step,
        )
        generative.decoder.coefficients.copy_(torch.from_numpy(fit.coefficients))
        fits.append(fit)
    return fits[0]


def train_inputs(
    module: PLNPCAModule,
    data: CountData,
    growth: Growth,
    prior: CoefficientPrior,
    options: GradientOptions,
    n_threads: int | None,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[Ascent, NotFiniteError | None]:
    """Train what an encoder of PLN-PCA makes of new categories, and their coefficients under its posteriors.

    Also what it failed with, if it did; what was reached is in the module.
    """
    approximation = module.approximation
    assert approximation is not None
    decoder = LinearDecoder(module.coefficients, module.loadings @ approximation.frame.T)
    generative = Generative(decoder, copy.deepcopy(module.generative.likelihood)).float()
    vae = VAEModule(generative, approximation, data.n_cells)
    vae.n_samples = options.n_samples
    training = GrownTraining(vae, growth, prior.mean, prior.spread)

    def step(cells: NDArray[np.intp], batch: Batch) -> torch.Tensor:
        output = training.loss(batch)
        output.loss.backward()
        return -(output.dict_sum(output.reconstruction_loss) + output.dict_sum(output.kl_local))

    batches, failure = Minibatches(data, options.batch_size, seed=options.seed), None
    settings: dict[str, Any] = {"n_steps": options.n_steps, "learning_rate": options.learning_rate, "on_step": on_step}
    with torch.random.fork_rng(devices=[]), torch_threads(n_threads or 1):
        torch.manual_seed(options.seed)
        try:
            ascent = ascend(step, training, batches, **settings)
        except NotFiniteError as error:
            ascent, failure = error.ascent, error
    training.put_back()
    module.coefficients[:, growth.is_new] = vae.coefficients[:, growth.is_new].double()
    return ascent, failure


def store_posteriors(module: PLNPCAModule, data: CountData, family: GaussianFamily, n_threads: int | None) -> None:
    """Infer the posteriors of all cells, and keep them."""
    posterior = infer_posterior(module, data, family, n_threads=n_threads)
    values = bound(module.generative, data, posterior, n_threads=n_threads)
    gaussian, context = posterior, None
    if isinstance(posterior, FlowPosterior):
        gaussian, context = posterior.gaussian, posterior.context.float()
    assert isinstance(gaussian, GaussianPosterior)
    module.set_cells(gaussian.mean.astype(np.float32), gaussian.packed_covariance.astype(np.float32), values, context)


def options_on_reference(options: TrainingOptions, n_cells: int, max_epochs: int | None) -> TrainingOptions:
    """The same options for what is new about mapped cells: few parameters with a prior, so that all cells train them."""
    per_epoch = -(-n_cells // options.batch_size)
    max_epochs = max_epochs or max(_FEWEST_EPOCHS, -(-_STEPS // per_epoch))
    return replace(options, max_epochs=max_epochs, validation_size=0.0, early_stopping=False)


def start_on_reference(module: AutoencoderModule, data: CountData, growth: Growth) -> GrownTraining:
    """What to train of an autoencoder for cells that were mapped onto a reference, from where it starts."""
    prior = start_coefficients(module, data, growth)
    return GrownTraining(module, growth, prior.mean, prior.spread)


@torch.no_grad()
def start_coefficients(module: AutoencoderModule, data: CountData, growth: Growth) -> CoefficientPrior:
    r"""Set an autoencoder's new coefficients to where its training starts, and learn their prior.

    At the states that the encoder gives cells, gene j is expected :math:`E_{ja}` times in those of a new category a,
    and found :math:`Y_{ja}` times: its coefficient is estimated by :math:`c_{ja} + \log (Y_{ja} / E_{ja})` with
    precision :math:`Y_{ja}`, and shrunken by the prior that makes all genes' estimates most probable. Of real values, by
    differences of means.
    """
    growth.restart(module)
    coefficients, new = module.coefficients, growth.is_new
    center = coefficients[:, new].double().numpy()
    found, expected, squares, n = (np.zeros_like(center) for _ in range(4))
    for cells, batch in Minibatches(data, data.block_size()).in_order():
        states = torch.from_numpy(module.posterior(batch).mean).float()
        eta, deviations = module.generative.decoder.decode(states, batch)
        mean = module.generative.likelihood.mean(eta, deviations).double().numpy()
        x, y = data.design[cells][:, new], batch.counts.dense.double().numpy()
        found += y.T @ x
        expected += mean.T @ x
        squares += ((y - mean) ** 2).T @ x
        n += x.sum(0)
    indicators = data.design[:, new]
    together = (indicators.T @ indicators).sum(1) / np.maximum(indicators.sum(0), 1)  # new categories of a cell
    if module.generative.likelihood.is_count:
        change = np.log((found + _PSEUDO_COUNT) / (expected + _PSEUDO_COUNT))
        precision = found + _PSEUDO_COUNT
    else:
        change, precision = (found - expected) / n, n**2 / np.maximum(squares, 1e-12)
    estimates = center + change / together
    prior = CoefficientPrior.unlearned(center).learned(estimates, precision)
    weight = precision / (precision + prior.precision)
    coefficients[:, new] = torch.from_numpy(prior.mean + weight * (estimates - prior.mean)).to(coefficients)
    return prior
