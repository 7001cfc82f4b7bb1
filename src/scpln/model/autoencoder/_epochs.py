"""What trainings in epochs share: the epochs themselves, and the account that is given of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scpln.core import after_training
from scpln.model.base import ScplnModel
from scpln.train.epochs import train_by_gradients

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from scpln.data import Cells
    from scpln.module import AutoencoderModule, GrownTraining
    from scpln.train.epochs import CheckpointOptions, DeviceOptions, GradientTraining, TrainingOptions

    from ._options import Lightning


class EpochTraining(ScplnModel):
    """Models that are trained by stochastic gradients in epochs."""

    module: AutoencoderModule

    def _train_epochs(
        self,
        module: AutoencoderModule,
        grown: GrownTraining | None,
        cells: Cells,
        options: TrainingOptions,
        *,
        device: DeviceOptions,
        checkpoint: CheckpointOptions,
        lightning: Lightning,
        about: dict[str, Any],
        labels: NDArray[np.int64] | None = None,
    ) -> GradientTraining:
        """Train a module, or what is new about it, and keep it; `about` is what a checkpoint has to agree with, besides model and cells."""
        settings = {"model": repr(self._params()), **about, "fingerprint": cells.fingerprint()}
        outcome = train_by_gradients(
            module if grown is None else grown,
            cells.data,
            options,
            labels=labels,
            device=device,
            checkpoint=replace(checkpoint, settings=settings),
            more_callbacks=lightning.callbacks,
            lightning_logger=lightning.logger,
            progress=lightning.progress,
            description=type(self).__name__,
        )
        if grown is not None:
            grown.write_to_module()
        self.module = module.requires_grad_(False)
        return outcome

    def _conclude_epochs(
        self,
        cells: Cells,
        outcome: GradientTraining,
        settings: dict[str, Any],
        summarize: Callable[[bool], dict[str, Any]],
        unknown: dict[str, Any],
    ) -> None:
        """Say how training went; then raise what it failed with, if it did.

        `summarize` is told whether it converged; `unknown` stands for what it returns, if it fails.
        """
        converged = not (outcome.interrupted or outcome.failed)
        summary, reason = after_training(lambda: summarize(converged), unknown, outcome.reason)
        training = {
            "converged": converged,
            "reason": reason,
            **summary,
            "n_epochs": outcome.n_epochs,
            "n_steps": outcome.n_steps,
            "n_skipped": outcome.n_skipped,
            "best_epoch": outcome.best_epoch,
            **settings,
        }
        self._finish_training(cells, training, outcome.history)
        if outcome.failure is not None:
            raise outcome.failure
