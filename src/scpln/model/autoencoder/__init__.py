"""Count autoencoders."""

from ._architecture import Architecture, Dispersion, ScaleActivation, resolve_likelihood
from ._autoencoder import Autoencoder
from ._cost import cost_of_epochs, cost_of_start
from ._count_gmvae import CountGMVAE
from ._count_vae import CountVAE
from ._epochs import EpochTraining
from ._network_model import NetworkModel
from ._options import (
    CHECKPOINTS,
    LIGHTNING,
    Lightning,
    checkpoint_options,
    cost_options,
    n_threads_or_default,
    training_options,
)
from ._query import options_on_reference, start_on_reference
from ._start import BATCH, ITERATIONS, LEARNING_RATE, STEPS, Start, cells_to_start_from, fit_plnpca, start_at_means
from ._training import StartKind

__all__ = [
    "BATCH",
    "CHECKPOINTS",
    "ITERATIONS",
    "LEARNING_RATE",
    "LIGHTNING",
    "STEPS",
    "Architecture",
    "Autoencoder",
    "CountGMVAE",
    "CountVAE",
    "Dispersion",
    "EpochTraining",
    "Lightning",
    "NetworkModel",
    "ScaleActivation",
    "Start",
    "StartKind",
    "cells_to_start_from",
    "checkpoint_options",
    "cost_of_epochs",
    "cost_of_start",
    "cost_options",
    "fit_plnpca",
    "n_threads_or_default",
    "options_on_reference",
    "resolve_likelihood",
    "start_at_means",
    "start_on_reference",
    "training_options",
]
