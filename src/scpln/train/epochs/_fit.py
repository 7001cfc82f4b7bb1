"""Training by stochastic gradients, on Lightning and scvi-tools: everything around the epochs."""

from __future__ import annotations

import hashlib
import logging
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from scvi.model._utils import parse_device_args
from scvi.train import Trainer

from scpln.train import NotFiniteError, torch_threads
from scpln.utils import progress_bar

from ._callbacks import BestWeights, EpochCheckpoint, EpochHistory, EpochProgress
from ._loader import CellData
from ._plan import GradientPlan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
    from numpy.typing import NDArray
    from torch import nn

    from scpln.core import CountData

    from ._plan import TrainingOptions

logger = logging.getLogger("scpln")

#: Steps that training plans by default, fewest of them, and the range of epochs that these may take.
STEPS, FEWEST_STEPS, EPOCHS = 4_000, 1_000, (10, 100)
#: Cells × parameters of a step from which more than one thread is faster. In smaller steps threads wait for each other,
#: and on busy cores take twenty times as long.
ENTRIES_FOR_THREADS = 250_000_000
#: Name of the file in the directory of checkpoints.
CHECKPOINT = "last.ckpt"
#: Of what is in it: 2 since the bounds in its history are those that models show.
FORMAT = 2


def default_epochs(n_cells: int, batch_size: int) -> int:
    """Epochs of about 4,000 steps: at least 10 and at most 100, but so many as make 1,000 steps of few cells.

    Examples
    --------
    >>> [default_epochs(n_cells, 128) for n_cells in (700, 3_000, 10_000, 100_000, 1_000_000)]
    [167, 100, 51, 10, 10]
    >>> default_epochs(100, 128)
    1000
    """
    per_epoch = -(-n_cells // batch_size)
    epochs = int(np.clip(-(-STEPS // per_epoch), *EPOCHS))
    return max(epochs, -(-FEWEST_STEPS // per_epoch))


@dataclass(frozen=True)
class GradientTraining:
    """What a training by gradients went through.

    Attributes
    ----------
    history
        A value for each completed epoch of ``train_loss``, ``elbo_train``, ``reconstruction_loss_train``,
        ``kl_local_train`` and, where cells validate, the same of ``validation``; ``kl_weight``; and ``seconds`` since
        the start. Means over cells, in nats. "elbo" is the bound: the higher, the better.
    n_epochs, n_steps, n_skipped
        Completed epochs, steps, and those of the steps that were left out because something was not finite.
    best_epoch
        Epoch after which the bound of the validation cells was best, whose weights the module has; None if the last
        weights are kept.
    train_cells, validation_cells
        Positions of the cells.
    stopped_early
        Whether the bound of the validation cells no longer improved.
    interrupted
        Whether Ctrl-C ended it.
    failure
        The error that ended it, to be raised when what was reached has been stored.
    """

    history: dict[str, list[float]]
    n_epochs: int
    n_steps: int
    n_skipped: int
    best_epoch: int | None
    train_cells: NDArray[np.intp] = field(repr=False)
    validation_cells: NDArray[np.intp] = field(repr=False)
    stopped_early: bool = False
    interrupted: bool = False
    failure: NotFiniteError | None = None

    @property
    def failed(self) -> bool:
        """Whether something that was not finite ended it."""
        return self.failure is not None

    @property
    def reason(self) -> str:
        """Why it ended, and what is kept, in words."""
        if not (self.n_steps or self.interrupted or self.failed):
            return "nothing to train"
        skipped = f", {self.n_skipped:,} of them skipped, since something was not finite" if self.n_skipped else ""
        done = f"{self.n_epochs:,} epoch{'' if self.n_epochs == 1 else 's'} ({self.n_steps:,} steps{skipped})"
        if self.failed:
            return f"failed after {done}; the last good parameters are kept"
        if self.best_epoch is None:
            return f"interrupted after {done}; what they reached is kept" if self.interrupted else done
        how = "interrupted after " if self.interrupted else "stopped early after " if self.stopped_early else ""
        return f"{how}{done}; the weights of epoch {self.best_epoch:,}, best for the validation cells, are kept"


def train_by_gradients(
    module: nn.Module,
    data: CountData,
    options: TrainingOptions,
    *,
    labels: NDArray[np.int64] | None = None,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    n_threads: int | None = None,
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    more_callbacks: Sequence[Callback] = (),
    lightning_logger: Logger | None = None,
    progress: bool = True,
    description: str = "Training",
) -> GradientTraining:
    """Minimise the loss of a module over the parameters that require gradients.

    On Ctrl-C the module has the best weights so far, or else the last; after a failure, the last good ones. It is left
    in evaluation mode, on the CPU. Random numbers elsewhere, Lightning's loggers, and torch's threads are left as they were.

    Parameters
    ----------
    module
        Has ``loss(batch, kl_weight=..., free_bits=...)``; trained in place.
    data
        Counts, offsets and design of the cells.
    options
        What decides the course of the training.
    labels
        Code of each cell's label, −1 where it is not known.
    accelerator, devices
        Where to compute, as Lightning and scvi-tools name it: ``"auto"`` is a GPU if there is one. One device.
    n_threads
        Threads of torch on the CPU; by default one, or all where a step is large.
    checkpoint_dir
        Directory to save the state of training in, at the end of every `checkpoint_every` epochs and of the last. It
        holds tensors and numbers only, and no code in it is run.
    resume
        Whether to go on from what is saved there, if there is something: the result is that of a training
        that was never interrupted.
    settings
        What a checkpoint must have in common with this training, besides the options and the cells: numbers and texts.
    more_callbacks, lightning_logger
        Callbacks of Lightning, and one of its loggers, which get what ``history`` has of each epoch.
    progress
        Whether to show a progress bar.
    description
        What it says.

    Returns
    -------
    What training went through. If its `failure` is not None, raise it once that is stored.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from scpln.inference import CountData
    >>> from scpln.train.epochs._plan import TrainingOptions
    >>> from scpln.module import Loss
    >>> class Rates(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.eta = torch.nn.Parameter(torch.zeros(3))
    ...
    ...     def loss(self, batch, *, kl_weight=1.0, free_bits=0.0):
    ...         losses = (self.eta.exp() - batch.counts.dense * self.eta).sum(1)
    ...         return Loss(losses.mean(), {"reconstruction_loss": losses.detach()})
    >>> data = CountData(np.random.default_rng(0).poisson(2.0, (500, 3)), np.zeros(500), np.ones((500, 1)))
    >>> module = Rates()
    >>> options = TrainingOptions(max_epochs=50, learning_rate=0.05, early_stopping=False)
    >>> train_by_gradients(module, data, options, progress=False).reason
    '50 epochs (200 steps)'
    >>> module.eta.exp().detach().round()
    tensor([2., 2., 2.])
    """
    cells = CellData(
        data,
        options.batch_size,
        labels=labels,
        validation_size=options.validation_size,
        seed=options.seed,
    )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        module.eval()
        return GradientTraining({}, 0, 0, 0, None, cells.train_idx, cells.val_idx)
    reports = bool(more_callbacks) or lightning_logger is not None
    plan = GradientPlan(module, options, n_steps=options.max_epochs * cells.steps_per_epoch, reports=reports)
    history = EpochHistory(getattr(module, "objective_name", "elbo"))
    best = BestWeights(options.patience) if options.early_stopping and cells.n_val else None
    callbacks: list[Callback] = [history, *([best] if best else [])]
    check_checkpoint(checkpoint_dir, resume=resume)
    found = None
    if checkpoint_dir is not None:
        path, common = (
            Path(checkpoint_dir) / CHECKPOINT,
            {"format": FORMAT, **asdict(options), **_describe(data, labels), **(settings or {})},
        )
        found = _find_checkpoint(path, common, resume=resume)
        checkpoint = EpochCheckpoint(path, checkpoint_every, common)
    if n_threads is None:
        n_parameters = sum(value.numel() for value in module.parameters())
        n_threads = 1 if options.batch_size * n_parameters < ENTRIES_FOR_THREADS else None
    failure = None
    with (
        progress_bar(description, options.max_epochs, unit="epoch", show=progress) as bar,
        _undisturbed(),
        torch_threads(n_threads),
    ):
        callbacks.append(EpochProgress(bar, history))
        if checkpoint_dir is not None:
            callbacks.append(checkpoint)
        trainer = _make_trainer(
            options.max_epochs,
            [*callbacks, *more_callbacks],
            accelerator,
            devices,
            validate=cells.n_val > 0,
            lightning_logger=lightning_logger,
        )
        module.train()
        try:
            # Not by scvi-tools' TrainRunner: it prints errors, marks the model as trained before it is known whether
            # training failed, and takes over its history.
            trainer.fit(plan, datamodule=cells, ckpt_path=found)
        except NotFiniteError as error:
            failure = error
        except SystemExit:  # what Lightning makes of Ctrl-C
            if not trainer.interrupted:
                raise
        finally:
            module.zero_grad(set_to_none=True)
            module.cpu().eval()
        if best is not None and failure is None:
            best.load_into(module)
        result = GradientTraining(
            history=history.epochs,
            n_epochs=history.n_epochs,
            n_steps=plan.n_done,
            n_skipped=plan.n_skipped,
            best_epoch=best.epoch if best is not None and failure is None else None,
            train_cells=cells.train_idx,
            validation_cells=cells.val_idx,
            stopped_early=best is not None and best.stopped,
            interrupted=failure is None and trainer.interrupted,
            failure=failure,
        )
        bar.finish(result.reason)
    return result


def check_checkpoint(directory: str | os.PathLike | None, *, resume: bool) -> None:
    """Refuse what cannot be resumed, or would be overwritten, before anything is computed."""
    if directory is None and resume:
        msg = "resume=True goes on from a checkpoint. Say where it is: checkpoint_dir=..."
        raise ValueError(msg)
    if directory is not None and not resume and (path := Path(directory) / CHECKPOINT).exists():
        msg = (
            f"{str(path)!r} is a checkpoint of an earlier training. Go on with it by resume=True, remove it, "
            "or choose another checkpoint_dir."
        )
        raise FileExistsError(msg)


def _make_trainer(
    max_epochs: int,
    callbacks: list[Callback],
    accelerator: str,
    devices: int | list[int] | str,
    *,
    validate: bool,
    lightning_logger: Logger | None,
) -> Trainer:
    """scvi-tools' trainer on one device, without what it prints and saves."""
    try:
        accelerator, devices, _ = parse_device_args(accelerator, devices, return_device="torch")
        trainer = _quiet_trainer(
            max_epochs, callbacks, accelerator, devices, validate=validate, lightning_logger=lightning_logger
        )
    except MisconfigurationException as error:
        msg = f"accelerator={accelerator!r}, devices={devices!r} cannot be used here: {error} Leave them out."
        raise ValueError(msg) from error
    if trainer.world_size > 1:
        msg = f"devices={devices!r} are {trainer.world_size} devices, but training uses one. Pass devices=1."
        raise ValueError(msg)
    return trainer


def _quiet_trainer(
    max_epochs: int,
    callbacks: list[Callback],
    accelerator: str,
    devices: Any,
    *,
    validate: bool,
    lightning_logger: Logger | None,
) -> Trainer:
    return Trainer(
        accelerator=accelerator,
        devices=devices,
        max_epochs=max_epochs,
        callbacks=callbacks,
        check_val_every_n_epoch=1,
        limit_val_batches=1.0 if validate else 0,
        logger=lightning_logger or False,
        enable_progress_bar=False,
        inference_mode=False,  # its tensors could not be used in training, if a module keeps some
    )


def _describe(data: CountData, labels: NDArray[np.int64] | None) -> dict[str, Any]:
    """Numbers of cells and genes, and a digest of all else but the counts: tells whether these are the same cells."""
    digest = hashlib.sha256()
    for array in (data.offsets, data.design, data.batches, labels):
        if array is not None:
            digest.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return {"n_cells": data.n_cells, "n_genes": data.n_genes, "cells": digest.hexdigest()}


def _find_checkpoint(path: Path, settings: Mapping[str, Any], *, resume: bool) -> Path | None:
    """The file to go on from, or None if there is none; it must belong to the same training."""
    if not path.exists():
        if resume:
            logger.info("There is no checkpoint in %s yet: training starts from the beginning.", path.parent)
        return None
    # Refuses files that hold code, before Lightning reads this one again.
    saved = torch.load(path, map_location="cpu", weights_only=True)["callbacks"][EpochCheckpoint.__qualname__]
    differing = [
        f"{name}={saved.get(name)!r}, not {settings.get(name)!r}"
        for name in {**saved, **settings}
        if saved.get(name) != settings.get(name)
    ]
    if differing:
        msg = (
            f"{str(path)!r} is a checkpoint of another training: it has {'; '.join(differing)}. "
            "Pass the same arguments and data, or another checkpoint_dir."
        )
        raise ValueError(msg)
    return path


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep Lightning quiet, and leave random numbers as they were."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [each.level for each in loggers]
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with torch.random.fork_rng(devices=gpus), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
