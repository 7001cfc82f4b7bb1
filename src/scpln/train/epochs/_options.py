"""What decides the course of a training in epochs, where it runs, and what is saved of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln.train._checkpoint import CHECKPOINT

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


@dataclass(frozen=True)
class TrainingOptions:
    """What decides the course of a training, besides the data and where its parameters start.

    Parameters
    ----------
    max_epochs
        Passes over the training cells that are planned: the learning rate and the weight of KL follow this plan.
    batch_size
        Most cells in a step.
    validation_size
        Share of the cells that is not trained on.
    learning_rate
        Largest learning rate of Adam, which rises to it over 20 steps and falls to 0 over the planned ones like a cosine.
    weight_decay
        Of Adam.
    kl_warmup
        Share of the planned steps over which the weight of KL grows from 0 to 1. In the last step it is 1, also with a
        share of 1, so that an epoch counts for early stopping.
    free_bits
        Nats of KL that cost nothing, as the module understands them.
    gradient_clip
        Largest norm of the gradient of all parameters together.
    early_stopping
        Whether training stops when the bound of the validation cells has not improved for `patience` epochs, and the
        parameters that gave the best are kept. Epochs count once the weight of KL is 1.
    patience
        Such epochs. With fewer epochs than that, the best parameters are kept all the same.
    seed
        Of the validation cells, the order of the others, and all draws.
    """

    max_epochs: int
    batch_size: int = 128
    validation_size: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    kl_warmup: float = 1 / 3
    free_bits: float = 0.0
    gradient_clip: float = 100.0
    early_stopping: bool = True
    patience: int = 30
    seed: int = 0


@dataclass(frozen=True)
class DeviceOptions:
    """Where a training runs.

    Parameters
    ----------
    accelerator, devices
        As Lightning and scvi-tools name them: ``"auto"`` is a GPU if there is one. One device.
    n_threads
        Threads of torch on the CPU; by default one, or all where a step is large.
    """

    accelerator: str = "auto"
    devices: int | list[int] | str = "auto"
    n_threads: int | None = None


@dataclass(frozen=True)
class CheckpointOptions:
    """Whether and where the state of a training is saved. It holds tensors and numbers only, and no code in it is run.

    Parameters
    ----------
    directory
        Directory to save in; None saves nothing.
    every
        Epochs from one checkpoint to the next; the last epoch is saved too.
    resume
        Whether to go on from what is saved there, if there is something: the result is that of a training that was never
        interrupted.
    settings
        What a checkpoint must have in common with this training, besides the options and the cells: numbers and texts.

    Examples
    --------
    >>> CheckpointOptions("state").path.name
    'last.ckpt'
    """

    directory: str | os.PathLike | None = None
    every: int = 1
    resume: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """The file."""
        return None if self.directory is None else Path(self.directory) / CHECKPOINT
