"""Groups of arguments of an autoencoder's training that are seldom needed: one default and one check for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from scpln.train.epochs import CheckpointOptions, TrainingOptions, default_epochs
from scpln.utils import in_range, positive_integer, positive_integer_or_none, positive_number

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

#: Precision of the normal prior of the networks' weights.
PRECISION = 10.0

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
        return cls(given["callbacks"], given["logger"], progress and given["enable_progress_bar"])


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
        learning_rate=positive_number("learning_rate", more["learning_rate"]),
        weight_decay=PRECISION / n_cells if decay is None else in_range("weight_decay", decay, 0),
        kl_warmup=in_range("kl_warmup", warmup, 0, 1),
        free_bits=in_range("free_bits", given["free_bits"], 0),
        gradient_clip=positive_number("gradient_clip", given["gradient_clip"]),
        early_stopping=more["early_stopping"],
        patience=positive_integer("patience", more["patience"]),
        seed=more["seed"],
    )


def checkpoint_options(given: Mapping[str, Any]) -> CheckpointOptions:
    """Check where the state of training is saved."""
    every = positive_integer("checkpoint_every", given["checkpoint_every"])
    return CheckpointOptions(given["checkpoint_dir"], every, given["resume"])
