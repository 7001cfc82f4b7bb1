"""What happens between the epochs of a training by gradients: its history, when to stop, a progress bar."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from scpln.train._best import BestParameters

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from scpln.utils import ProgressBar


class EpochHistory(Callback):
    """Means over cells of each epoch, under the names of scvi-tools, with the seconds since the start.

    Lists of floats: scvi-tools' logger keeps a table for each quantity, and writing to it takes longer than an epoch of
    a small data set.
    """

    def __init__(self, objective: str = "elbo") -> None:
        self._objective = objective
        self.epochs: dict[str, list[float]] = {}
        self._begin, self._before = time.perf_counter(), 0.0

    @property
    def n_epochs(self) -> int:
        """Epochs that were completed."""
        return len(self.epochs.get("seconds", []))

    @property
    def bound(self) -> float:
        """Mean bound of the validation cells after the last epoch, or else that of the training cells during it."""
        name = self._objective
        bounds = self.epochs.get(f"{name}_validation") or self.epochs.get(f"{name}_train")
        return bounds[-1] if bounds else math.nan

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add an epoch."""
        plan: Any = pl_module
        row = {**plan.train_means.history(), "kl_weight": plan.last_kl_weight}
        if plan.validation_means.n_cells:
            row |= plan.validation_means.history()
        row["seconds"] = self._before + time.perf_counter() - self._begin
        for name, value in row.items():
            self.epochs.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.epochs

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.epochs = {name: list(values) for name, values in state_dict.items()}
        self._begin, self._before = time.perf_counter(), self.epochs["seconds"][-1]


class BestWeights(Callback):
    """Keeps the weights with the best bound of the validation cells, and stops when it no longer improves.

    Only epochs after the KL warm-up count: with less weight on KL another objective was minimised.

    Parameters
    ----------
    patience
        Epochs without improvement after which training stops.
    """

    def __init__(self, patience: int) -> None:
        self.best = BestParameters(patience)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A training that had stopped, and is taken up again, stops again."""
        trainer.should_stop = trainer.should_stop or self.best.stopped

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See whether the bound has improved."""
        plan: Any = pl_module
        if plan.last_kl_weight < 1:
            return
        self.best.update(plan.validation_means.loss, plan.module, trainer.current_epoch + 1)
        trainer.should_stop = trainer.should_stop or self.best.stopped

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.best.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best.load_state_dict(state_dict)


class EpochProgress(Callback):
    """Shows the bound after each epoch in a progress bar."""

    def __init__(self, bar: ProgressBar, history: EpochHistory) -> None:
        self._bar, self._history = bar, history

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start where a checkpoint ended."""
        if self._history.n_epochs:
            self._bar.update(self._history.n_epochs, self._history.bound)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move on."""
        self._bar.update(self._history.n_epochs, self._history.bound)
