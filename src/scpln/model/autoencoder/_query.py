"""How an autoencoder learns what is new about mapped cells: coefficients and inputs of its networks, by gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from scpln.inference import CoefficientPrior
from scpln.model.abilities import as_prior
from scpln.module import GrownTraining
from scpln.train import Minibatches

if TYPE_CHECKING:
    from scpln.core import CountData
    from scpln.inference import StateDensity
    from scpln.module import AutoencoderModule, Growth
    from scpln.train.epochs import TrainingOptions


#: Added to total counts, so that a gene without any has a finite estimate.
_PSEUDO_COUNT = 0.5
#: Steps of an autoencoder that suffice for what is new about mapped cells, and fewest epochs.
_STEPS, _FEWEST_EPOCHS = 400, 2


def options_on_reference(options: TrainingOptions, n_cells: int, max_epochs: int | None) -> TrainingOptions:
    """The same options for what is new about mapped cells: few parameters with a prior, so that all cells train them."""
    per_epoch = -(-n_cells // options.batch_size)
    max_epochs = max_epochs or max(_FEWEST_EPOCHS, -(-_STEPS // per_epoch))
    return replace(options, max_epochs=max_epochs, validation_size=0.0, early_stopping=False)


def start_on_reference(
    module: AutoencoderModule, data: CountData, growth: Growth, density: StateDensity | None = None
) -> GrownTraining:
    """What to train of an autoencoder for cells that were mapped onto a reference, from where it starts.

    States are expected where those of the reference are, if their density is known, so that a batch of one cell type is not drawn
    to the centre of all.
    """
    prior = start_coefficients(module, data, growth)
    prior_of_states = None if density is None else as_prior(density)
    return GrownTraining(module, growth, prior.mean, prior.spread, prior_of_states)


@torch.no_grad()
def start_coefficients(module: AutoencoderModule, data: CountData, growth: Growth) -> CoefficientPrior:
    r"""Set an autoencoder's new coefficients to where its training starts, and learn their prior.

    At the states that the encoder gives cells, gene j is expected :math:`E_{ja}` times in those of a new category a,
    and found :math:`Y_{ja}` times: its coefficient is estimated by :math:`c_{ja} + \log (Y_{ja} / E_{ja})` with
    precision :math:`Y_{ja}`, and shrunken by the prior that makes all genes' estimates most probable. Of real values, by
    differences of means.
    """
    growth.restart(module)
    coefficients, new = cast("torch.Tensor", module.generative.decoder.coefficients), growth.is_new
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
        unit = module.unit  # of the decoder's coefficients
        change, precision = (found - expected) / n / unit, n**2 / np.maximum(squares / unit**2, 1e-12)
    estimates = center + change / together
    prior = CoefficientPrior.with_unit_spread(center).empirical_bayes(estimates, precision)
    weight = precision / (precision + prior.precision)
    coefficients[:, new] = torch.from_numpy(prior.mean + weight * (estimates - prior.mean)).to(coefficients)
    return prior
