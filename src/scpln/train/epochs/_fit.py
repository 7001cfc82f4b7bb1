"""Training by stochastic gradients, on Lightning and scvi-tools: everything around the epochs."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import numpy as np

from scpln.train import NotFiniteError, torch_threads
from scpln.utils import progress_bar

from ._callbacks import BestWeights, EpochHistory, EpochProgress
from ._checkpoint import start_checkpoints
from ._ineffective import warn_ineffective
from ._loader import CellData
from ._options import CheckpointOptions, DeviceOptions
from ._plan import GradientPlan
from ._result import GradientTraining
from ._trainer import make_trainer, undisturbed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
    from numpy.typing import NDArray
    from scvi.train import Trainer
    from torch import nn

    from scpln.core import CountData

    from ._options import TrainingOptions

#: Steps that training plans by default, fewest of them, and the range of epochs that these may take.
STEPS, FEWEST_STEPS, EPOCHS = 4_000, 1_000, (10, 100)
#: Cells × parameters of a step from which more than one thread is faster. In smaller steps threads wait for each other,
#: and on busy cores take twenty times as long.
ENTRIES_FOR_THREADS = 250_000_000


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


def train_by_gradients(
    module: nn.Module,
    data: CountData,
    options: TrainingOptions,
    *,
    labels: NDArray[np.int64] | None = None,
    device: DeviceOptions | None = None,
    checkpoint: CheckpointOptions | None = None,
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
    device
        Device and threads.
    checkpoint
        Whether to save the state of training, and to go on from there.
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
    >>> from scpln.train.epochs import TrainingOptions
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
    device, checkpoint = device or DeviceOptions(), checkpoint or CheckpointOptions()
    cells = CellData(
        data, options.batch_size, labels=labels, validation_size=options.validation_size, seed=options.seed
    )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        module.eval()
        return GradientTraining({}, 0, 0, 0, None, cells.train_idx, cells.val_idx)
    reports = bool(more_callbacks) or lightning_logger is not None
    plan = GradientPlan(module, options, n_steps=options.max_epochs * cells.steps_per_epoch, reports=reports)
    history = EpochHistory(getattr(module, "objective_name", "elbo"))
    early = BestWeights(options.patience) if options.early_stopping and cells.n_val else None
    saving, found = start_checkpoints(checkpoint, options, data, labels)
    warn_ineffective(options, checkpoint, cells)
    with (
        progress_bar(description, options.max_epochs, unit="epoch", show=progress) as bar,
        undisturbed(),
        torch_threads(device.n_threads or _default_threads(module, options.batch_size)),
    ):
        ours = [history, early, EpochProgress(bar, history), saving]
        trainer = make_trainer(
            options.max_epochs,
            [*(callback for callback in ours if callback is not None), *more_callbacks],
            device,
            validate=cells.n_val > 0,
            logger=lightning_logger,
        )
        failure = _fit(trainer, plan, cells, found)
        best = None if early is None or failure is not None else early.best
        if best is not None:
            best.load_into(module)
        result = GradientTraining(
            history=history.epochs,
            n_epochs=history.n_epochs,
            n_steps=plan.guard.ascent.n_steps,
            n_skipped=plan.guard.ascent.n_skipped,
            best_epoch=None if best is None else best.epoch,
            train_cells=cells.train_idx,
            validation_cells=cells.val_idx,
            stopped_early=early is not None and early.best.stopped,
            interrupted=failure is None and trainer.interrupted,
            failure=failure,
        )
        bar.finish(result.reason)
    return result


def _fit(trainer: Trainer, plan: GradientPlan, cells: CellData, found: Path | None) -> NotFiniteError | None:
    """Go through the epochs; return the error that ended them if something was not finite."""
    module, before = plan.module, signal.getsignal(signal.SIGINT)
    module.train()
    try:
        # Not by scvi-tools' TrainRunner: it prints errors, marks the model as trained before it is known whether
        # training failed, and takes over its history.
        trainer.fit(plan, datamodule=cells, ckpt_path=found)
    except NotFiniteError as error:
        return error
    except SystemExit as error:
        if not (trainer.interrupted and isinstance(error.__context__, KeyboardInterrupt) and error.code == 1):
            raise  # not what Lightning makes of Ctrl-C, but the end of the program, as a signal's handler wants it
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)  # which Lightning ignores once it was pressed
        module.zero_grad(set_to_none=True)
        module.cpu().eval()
    return None


def _default_threads(module: nn.Module, batch_size: int) -> int | None:
    """One thread, or all where a step is large."""
    n_parameters = sum(value.numel() for value in module.parameters())
    return 1 if batch_size * n_parameters < ENTRIES_FOR_THREADS else None
