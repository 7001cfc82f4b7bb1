"""Checkpoints of a training in epochs, in Lightning's own format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from scpln.train._checkpoint import (
    check_checkpoint,
    check_same_training,
    describe_cells,
    find_checkpoint,
    read_checkpoint,
    write_checkpoint,
)

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch import LightningModule, Trainer
    from numpy.typing import NDArray

    from scpln.core import CountData

    from ._options import CheckpointOptions, TrainingOptions

#: Of what is in a checkpoint: 2 since the bounds in its history are those that models show, 3 since there is one schedule.
FORMAT = 3


#: What Lightning needs to go on.
NEEDED = ("state_dict", "callbacks", "loops", "optimizer_states", "epoch", "global_step", "pytorch-lightning_version")


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place, where Lightning does so in the temporary folder, of another disk perhaps."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save; a path with a protocol is left to Lightning."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        write_checkpoint(Path(path), lambda file: torch.save(checkpoint, file))


class EpochCheckpoint(Callback):
    """Saves the state of training at the end of epochs, in place of the last one.

    Parameters
    ----------
    path
        File.
    every
        Epochs from one to the next; the last epoch is saved too.
    settings
        What a training that is taken up again must have in common with this one: numbers and texts.
    """

    def __init__(self, path: Path, every: int, settings: dict[str, Any]) -> None:
        self._path, self._every, self._settings = path, every, settings

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if it is time."""
        done = trainer.current_epoch + 1
        if done % self._every == 0 or done == trainer.max_epochs or trainer.should_stop:
            trainer.save_checkpoint(self._path, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self._settings


def start_checkpoints(
    checkpoint: CheckpointOptions, options: TrainingOptions, data: CountData, labels: NDArray[np.int64] | None
) -> tuple[EpochCheckpoint | None, Path | None]:
    """What saves the state of a training, and the file to go on from; None without them."""
    check_checkpoint(checkpoint.directory, resume=checkpoint.resume)
    if checkpoint.path is None:
        return None, None
    settings = {"format": FORMAT, **asdict(options), **describe_cells(data, labels), **checkpoint.settings}
    found = find_checkpoint(checkpoint.path, resume=checkpoint.resume)
    if found is not None:
        # Refuses files that hold code, before Lightning reads this one again.
        saved = read_checkpoint(found, NEEDED)["callbacks"].get(EpochCheckpoint.__qualname__, {})
        check_same_training(found, saved, settings)
    return EpochCheckpoint(checkpoint.path, checkpoint.every, settings), found
