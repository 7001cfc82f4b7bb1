"""scvi-tools' trainer on one device, kept quiet."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from scvi.model._utils import parse_device_args
from scvi.train import Trainer

from scpln.train import torch_random

from ._checkpoint import WholeCheckpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

    from ._options import DeviceOptions


def make_trainer(
    max_epochs: int, callbacks: Sequence[Callback], device: DeviceOptions, *, validate: bool, logger: Logger | None
) -> Trainer:
    """scvi-tools' trainer on one device, without what it prints and saves."""
    accelerator, devices = device.accelerator, device.devices
    try:
        accelerator, devices, _ = parse_device_args(accelerator, devices, return_device="torch")
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            max_epochs=max_epochs,
            callbacks=list(callbacks),
            check_val_every_n_epoch=1,
            limit_val_batches=1.0 if validate else 0,
            logger=logger or False,
            enable_progress_bar=False,
            plugins=[WholeCheckpoints()],
            inference_mode=False,  # its tensors could not be used in training, if a module keeps some
        )
    except MisconfigurationException as error:
        msg = f"accelerator={accelerator!r}, devices={devices!r} cannot be used here: {error} Leave them out."
        raise ValueError(msg) from error
    if trainer.world_size > 1:
        msg = f"devices={devices!r} are {trainer.world_size} devices, but training uses one. Pass devices=1."
        raise ValueError(msg)
    # SIGTERM ends the program, or runs the user's handler, as anywhere in Python: Lightning would end training instead.
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Lightning quiet, and leave random numbers as they were.

    Loggers, filters of warnings and random numbers are one for the whole process, so that trainings in several threads
    take turns.
    """
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch_random(devices=gpus):
        levels = [each.level for each in loggers]
        try:
            for each in loggers:
                each.setLevel(logging.ERROR)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"lightning\.")
                warnings.filterwarnings("ignore", category=PossibleUserWarning)
                yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
