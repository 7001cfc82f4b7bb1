"""Where an autoencoder starts: at the data's means, with an encoder pretrained on the posteriors of a PLN-PCA."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from scpln.inference import fit, start_gaussian
from scpln.inference.newton.general import in_unit, residual_log_spread
from scpln.module import GaussianPosterior
from scpln.train import Minibatches, ascend, divergence, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import AutoencoderModule, Batch, CountBatch, Likelihood

    OnStep = Callable[[int, float], None]

#: Cells that a start is computed from, at most.
CELLS = 10_000
#: Pseudo-count of each gene, so that one without counts has a finite log-rate.
_PSEUDO_COUNT = 0.5
#: Most iterations of PLN-PCA: its latent states change little afterwards.
ITERATIONS = 30
#: Steps of pretraining the encoder, cells in each, and their learning rate.
STEPS, BATCH, LEARNING_RATE = 500, 256, 4e-3


@dataclass(frozen=True)
class Start:
    """Latent states of some training cells, from PLN-PCA.

    Parameters
    ----------
    data
        Their counts.
    gaussian
        Their posteriors.
    """

    data: CountData
    gaussian: GaussianPosterior


def cells_to_start_from(cells: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most 10,000 of the training cells, evenly spread. Cells that validate are none of them, or their bound would lie."""
    return cells[np.unique(np.linspace(0, len(cells) - 1, min(len(cells), CELLS)).astype(int))]


@torch.no_grad()
def start_at_means(module: AutoencoderModule, data: CountData) -> None:
    """Set each gene's log-rate to its mean, and the parameters of the likelihood to moments around that.

    Real values get the unit of the spread of their residuals.
    """
    generative = module.generative
    totals, sizes = np.zeros(data.n_genes), data.exposures
    for _, batch in Minibatches(data, data.block_size()).in_order():
        totals += batch.counts.dense.double().sum(0).numpy()
    is_count = generative.likelihood.is_count
    if not is_count:
        module.start_in_unit(residual_log_spread(data))
    means = np.log((totals + _PSEUDO_COUNT) / sizes) if is_count else totals / data.n_cells
    log_total = float(np.log((totals.sum() + _PSEUDO_COUNT) / sizes.mean())) if is_count else 0.0
    design = torch.from_numpy(data.design)
    generative.decoder.start_at(means, log_total, design)
    module.encoder.trunk.standardize.fit(design)
    intercepts = torch.from_numpy(means).float()

    def expected() -> Iterator[tuple[CountBatch, torch.Tensor]]:
        for _, batch in Minibatches(data, data.block_size()).in_order():
            eta = batch.gene_offsets + intercepts
            yield batch.counts, eta.exp() if is_count else eta

    generative.likelihood.initialise(expected())


def fit_plnpca(
    data: CountData,
    n_latent: int,
    likelihood: Likelihood,
    *,
    diagonal: bool,
    seed: int,
    n_threads: int | None,
    on_iteration: OnStep | None = None,
) -> Start:
    """Posteriors of cells under a Poisson PLN-PCA of these, or factor analysis of real values."""
    family: Literal["fullrank", "meanfield"] = "meanfield" if diagonal else "fullrank"
    q = min(n_latent, *data.counts.shape)
    if likelihood.is_count:
        result = fit(
            data,
            q,
            posterior=family,
            prior="learned",
            max_iter=ITERATIONS,
            tol=1e-2,
            seed=seed,
            n_threads=n_threads,
            on_iteration=on_iteration,
        )
    else:
        scaled = in_unit(data, math.exp(residual_log_spread(data)))
        result = start_gaussian(scaled, q, likelihood, posterior=family, seed=seed, n_threads=n_threads)
    if result.interrupted:
        raise KeyboardInterrupt
    return Start(data, _padded(GaussianPosterior(result.mean, result.covariance), n_latent))


def pretrain_encoder(
    module: AutoencoderModule, start: Start, *, seed: int, n_threads: int | None, on_step: OnStep | None = None
) -> None:
    """Pretrain a module's encoder on the posteriors of PLN-PCA.

    Several components have the same targets, and q(k | y) the responsibilities of the prior's components.
    """
    loc, scale = torch.from_numpy(start.gaussian.mean).float(), start.gaussian.scale.float()
    encoder, prior = module.encoder, module.generative.prior

    def step(cells: NDArray[np.intp], batch: Batch) -> torch.Tensor:
        *logits, ours_loc, ours_scale, _ = encoder(batch)
        times = len(ours_loc) // len(cells)
        values = divergence(loc[cells].repeat(times, 1), scale[cells].repeat(times, 1, 1), ours_loc, ours_scale)
        loss = values.mean()
        if logits:
            loss = loss + cross_entropy(logits[0], prior.responsibilities(loc[cells]).detach())
        loss.backward()
        return -values.detach().reshape(times, -1).mean(0)

    batches = Minibatches(start.data, BATCH, seed=seed)
    with torch_threads(n_threads or 1):
        ascent = ascend(step, encoder, batches, n_steps=STEPS, learning_rate=LEARNING_RATE, on_step=on_step)
    if ascent.interrupted:
        raise KeyboardInterrupt


def _padded(gaussian: GaussianPosterior, n_latent: int) -> GaussianPosterior:
    """The same with more dimensions, standard normal, where the data had too few cells or genes for them."""
    n, q = gaussian.mean.shape
    if q == n_latent:
        return gaussian
    mean = np.concatenate([gaussian.mean, np.zeros((n, n_latent - q))], axis=1)
    covariance = np.tile(np.eye(n_latent), (n, 1, 1))
    covariance[:, :q, :q] = gaussian.covariance
    return GaussianPosterior(mean, covariance[:, *np.tril_indices(n_latent)])
