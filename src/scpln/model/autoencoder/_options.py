"""Groups of arguments of an autoencoder's training that are seldom needed: one default and one check for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import scvi
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from scpln.train.epochs import CheckpointOptions, TrainingOptions, default_epochs
from scpln.utils import MOST_DRAWS, as_bool, in_range, positive_integer, positive_integer_or_none, positive_number

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Precision of the normal prior of the networks' weights.
PRECISION = 10.0

#: Draws of each cell that a bound is the mean of; draws × cells × genes that the mean after training may cost.
ELBO_DRAWS, _ELBO_ENTRIES = 100, 2e8
#: How the loss is made and followed.
LOSS = {"weight_decay": None, "kl_warmup": None, "free_bits": 0.0, "n_samples": 1, "gradient_clip": 50.0}
#: Where the state of training is saved.
CHECKPOINTS = {"checkpoint_dir": None, "checkpoint_every": 1, "resume": False}
#: What Lightning, and `scvi.autotune` through it, gets and passes.
LIGHTNING = {"callbacks": (), "logger": None, "enable_progress_bar": True, "check_val_every_n_epoch": 1}


class MoreTraining(TypedDict, total=False):
    """Arguments of ``train`` in these groups, for type checkers."""

    weight_decay: float | None
    kl_warmup: float | None
    free_bits: float
    n_samples: int
    gradient_clip: float
    checkpoint_dir: str | os.PathLike | None
    checkpoint_every: int
    resume: bool
    callbacks: Sequence[Callback]
    logger: Logger | None
    enable_progress_bar: bool
    check_val_every_n_epoch: Literal[1]


@dataclass(frozen=True)
class Lightning:
    """Callbacks and a logger of Lightning, and whether there is a progress bar."""

    callbacks: Sequence[Callback]
    logger: Logger | None
    progress: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], *, progress: bool) -> Lightning:
        """Check the arguments of this group."""
        every = given["check_val_every_n_epoch"]
        if every != 1:
            msg = f"check_val_every_n_epoch={every!r}, but cells validate in every epoch. Leave it out."
            raise ValueError(msg)
        callbacks, logger = given["callbacks"], given["logger"]
        callbacks = [callbacks] if isinstance(callbacks, Callback) else callbacks
        if not isinstance(callbacks, Sequence) or not all(isinstance(each, Callback) for each in callbacks):
            msg = f"callbacks={callbacks!r}, but it must be a list of callbacks of Lightning (lightning.pytorch.Callback)."
            raise TypeError(msg)
        if logger is not None and not isinstance(logger, Logger):
            msg = (
                f"logger={logger!r}, but it must be a logger of Lightning (lightning.pytorch.loggers.Logger), or None."
            )
            raise TypeError(msg)
        shown = as_bool("progress", progress), as_bool("enable_progress_bar", given["enable_progress_bar"])
        return cls(callbacks, logger, all(shown))


def training_options(
    given: Mapping[str, Any],
    n_cells: int,
    *,
    max_epochs: int | None,
    batch_size: int,
    random_start: bool,
    **more: Any,
) -> TrainingOptions:
    """Check what decides the course of a training of so many cells, and fill in what follows from other choices."""
    warmup, decay = given["kl_warmup"], given["weight_decay"]
    if warmup is None:
        warmup = 1 / 3 if random_start else 0.0
    batch_size = positive_integer("batch_size", batch_size)
    max_epochs = positive_integer_or_none("max_epochs", max_epochs)
    return TrainingOptions(
        max_epochs=max_epochs or default_epochs(n_cells, batch_size),
        batch_size=batch_size,
        validation_size=in_range("validation_size", more["validation_size"], 0, 0.9),
        learning_rate=positive_number("learning_rate", more["learning_rate"], most=1),
        weight_decay=PRECISION / n_cells if decay is None else in_range("weight_decay", decay, 0),
        kl_warmup=in_range("kl_warmup", warmup, 0, 1),
        free_bits=in_range("free_bits", given["free_bits"], 0),
        gradient_clip=positive_number("gradient_clip", given["gradient_clip"]),
        early_stopping=as_bool("early_stopping", more["early_stopping"]),
        patience=positive_integer("patience", more["patience"]),
        seed=more["seed"],
    )


def cost_options(
    n_cells: int, max_epochs: int | None, batch_size: int, n_samples: int, n_threads: int | None
) -> tuple[TrainingOptions, int, int | None]:
    """Check what decides the cost of a training: its course, the draws of each cell and the threads."""
    batch_size, n_samples = positive_integer("batch_size", batch_size), n_draws(n_samples)
    epochs = positive_integer_or_none("max_epochs", max_epochs) or default_epochs(n_cells, batch_size)
    return TrainingOptions(max_epochs=epochs, batch_size=batch_size), n_samples, n_threads_or_default(n_threads)


def n_draws(n_samples: int) -> int:
    """Draws of each cell in a step."""
    return positive_integer("n_samples", n_samples, most=MOST_DRAWS)


def n_elbo_draws(n_cells: int, n_genes: int) -> int:
    """Draws of each cell that the bound after training is the mean over."""
    return int(np.clip(_ELBO_ENTRIES / (n_cells * n_genes), 1, ELBO_DRAWS))


def n_threads_or_default(n_threads: int | None) -> int | None:
    """Threads, by default those of the settings."""
    return positive_integer_or_none("n_threads", n_threads) or scvi.settings.num_threads


def checkpoint_options(given: Mapping[str, Any]) -> CheckpointOptions:
    """Check where the state of training is saved."""
    every = positive_integer("checkpoint_every", given["checkpoint_every"])
    directory, resume = given["checkpoint_dir"], as_bool("resume", given["resume"])
    if directory is None or isinstance(directory, str | os.PathLike):
        if directory is not None and (
            not str(directory) or (Path(directory).exists() and not Path(directory).is_dir())
        ):
            msg = f"checkpoint_dir={str(directory)!r} is no directory, but a file, or nothing. Name another."
            raise ValueError(msg)
        return CheckpointOptions(directory, every, resume)
    msg = f"checkpoint_dir={directory!r}, but it must be the path of a directory: text, or a pathlib.Path."
    raise TypeError(msg)
