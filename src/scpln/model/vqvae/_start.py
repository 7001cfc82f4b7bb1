"""Where codes start: an encoder that gives the latent states of a PLN-PCA, and codebooks at the centres of k-means of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scvi
import torch
from sklearn.cluster import KMeans

from scpln.model.autoencoder import BATCH, LEARNING_RATE, STEPS
from scpln.module import StandardNormal
from scpln.module.codes import EMAQuantizer
from scpln.train import Minibatches, ascend, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.model.autoencoder import Start
    from scpln.module import Batch
    from scpln.module.codes import VQVAEModule

    OnStep = Callable[[int, float], None]

#: Smallest standard deviation that an axis is divided by.
_SMALLEST = 1e-3


def axes_of_positions(start: Start, n_codes: int) -> NDArray[np.float64]:
    """Latent states of cells (n, M·D) in which positions share the axes: by falling variance, each position gets one after the other.

    Positions of equal variance use their codes best; this comes near.
    """
    mean = start.gaussian.mean
    order = np.argsort(-mean.var(0), kind="stable")
    return mean[:, order.reshape(-1, n_codes).T.ravel()]


def information(start: Start) -> float:
    """Nats that a cell's counts tell of its state, on average: the divergence of PLN-PCA's posteriors from the prior."""
    divergence = start.gaussian.divergence(StandardNormal(start.gaussian.n_latent))
    assert divergence is not None
    return float(divergence.mean())


def pretrain_encoder(
    module: VQVAEModule, start: Start, *, seed: int, n_threads: int | None, on_step: OnStep | None = None
) -> None:
    """Let the encoder give the states of PLN-PCA; where codes are on a grid, in units of their standard deviations."""
    targets = axes_of_positions(start, module.quantizer.n_codes)
    if not isinstance(module.quantizer, EMAQuantizer):
        targets = targets / np.maximum(targets.std(0), _SMALLEST)
    wanted = torch.from_numpy(targets).float()

    def step(cells: NDArray[np.intp], batch: Batch) -> torch.Tensor:
        errors = (module.encoder(batch) - wanted[cells]).square().sum(1)
        errors.mean().backward()
        return -errors.detach()

    batches = Minibatches(start.data, BATCH, seed=seed)
    with torch_threads(n_threads or 1):
        ascent = ascend(step, module.encoder, batches, n_steps=STEPS, learning_rate=LEARNING_RATE, on_step=on_step)
    if ascent.interrupted:
        raise KeyboardInterrupt


@torch.no_grad()
def place_codes(module: VQVAEModule, data: CountData, batch_size: int, seed: int) -> None:
    """Put each position's codebook at the centres of k-means of what the encoder gives, or with fewer cells than codes, at cells."""
    quantizer = module.quantizer
    if not isinstance(quantizer, EMAQuantizer):
        return
    with torch_threads(scvi.settings.num_threads or 1):
        parts = [module.encoder(batch) for _, batch in Minibatches(data, data.block_size()).in_order()]
    h = torch.cat(parts).reshape(-1, quantizer.n_codes, quantizer.dim).numpy()
    size = quantizer.codebook_size
    vectors = np.empty((quantizer.n_codes, size, quantizer.dim), dtype=np.float32)
    counts = np.empty((quantizer.n_codes, size), dtype=np.float32)
    for position in range(quantizer.n_codes):
        states = np.ascontiguousarray(h[:, position])
        if len(states) <= size:
            vectors[position] = np.resize(states, vectors[position].shape)
            counts[position] = min(batch_size, data.n_cells) / size
            continue
        found = KMeans(size, n_init=1, random_state=seed).fit(states)
        vectors[position] = found.cluster_centers_
        counts[position] = np.bincount(found.labels_, minlength=size) * (min(batch_size, data.n_cells) / len(states))
    quantizer.place(torch.from_numpy(vectors), torch.from_numpy(counts))
