"""What training an autoencoder will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpln.model.base import network_weights, newton_cost, steps_cost

from ._start import BATCH, CELLS, ITERATIONS, STEPS

if TYPE_CHECKING:
    from scpln.model.base import Cost
    from scpln.train.epochs import TrainingOptions

    from ._architecture import Architecture


def cost_of_epochs(
    shape: tuple[int, int],
    architecture: Architecture,
    options: TrainingOptions,
    n_samples: int,
    n_posteriors: int,
    n_evaluated: int,
) -> Cost:
    """What all epochs cost of cells and genes (n, p).

    Each cell has `n_posteriors`, with `n_samples` draws of each in a step, and `n_evaluated` for its bound in the end.
    """
    (n, p), q = shape, architecture.n_latent
    trained = int(n * (1 - options.validation_size))
    return steps_cost(
        n,
        p,
        n_steps=options.max_epochs * -(-trained // options.batch_size),
        batch_size=options.batch_size,
        n_draws=n_samples * n_posteriors,
        weights=_encoder(p, architecture) + network_weights([q, *architecture.decoder_hidden, p], [q, p]),
        flow=architecture.flow,
        n_evaluated=n_evaluated,
        n_features=_n_posterior(q) * n_posteriors,
    )


def cost_of_start(shape: tuple[int, int], architecture: Architecture, n_covariates: int, n_threads: int | None) -> Cost:
    """What a start at PLN-PCA costs."""
    some, p = min(shape[0], CELLS), shape[1]
    fit = newton_cost(some, p, architecture.n_latent, n_covariates, max_iter=ITERATIONS, n_threads=n_threads)
    return fit + steps_cost(some, 0, n_steps=STEPS, batch_size=BATCH, n_draws=1, weights=_encoder(p, architecture))


def _encoder(n_genes: int, architecture: Architecture) -> float:
    return network_weights([n_genes, *architecture.encoder_hidden, _n_posterior(architecture.n_latent)])


def _n_posterior(n_latent: int) -> int:
    """Numbers that describe a Gaussian."""
    return n_latent * (n_latent + 3) // 2
