"""Settings that leave another one without effect, which is said before training starts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scpln.utils import warn

from ._kl_warmup import epochs_at_full_weight

if TYPE_CHECKING:
    from ._loader import CellData
    from ._options import CheckpointOptions, TrainingOptions

logger = logging.getLogger("scpln")


def warn_ineffective(options: TrainingOptions, checkpoint: CheckpointOptions, cells: CellData) -> None:
    """Warn of settings that are of no use together; log what the number of cells alone has decided."""
    if checkpoint.directory is not None and checkpoint.every > options.max_epochs:
        warn(
            f"checkpoint_every={checkpoint.every} is more than max_epochs={options.max_epochs}: only the end of training "
            "is saved, and there is nothing to go on from after an interruption. Lower checkpoint_every."
        )
    if not options.early_stopping or options.validation_size == 0:
        return
    if not cells.n_val:
        logger.info("%d cells are too few to validate on some of them: early_stopping has no effect.", cells.n_train)
        return
    n_count = epochs_at_full_weight(options.kl_warmup, options.max_epochs, cells.steps_per_epoch)
    if n_count == 1 < options.max_epochs:
        warn(
            f"kl_warmup={options.kl_warmup:.3g} leaves early_stopping only the last of {options.max_epochs} epochs: it "
            "compares epochs once the weight of KL is 1. Lower kl_warmup, or pass early_stopping=False."
        )
    elif n_count <= options.patience < options.max_epochs:
        logger.info(
            "early_stopping will keep the best epoch, but not end training: kl_warmup=%.3g leaves it %d of %d epochs, and "
            "patience=%d.",
            options.kl_warmup,
            n_count,
            options.max_epochs,
            options.patience,
        )
