"""What a training in epochs went through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.train import NotFiniteError


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
        if self.best_epoch is None and self.stopped_early:
            return f"stopped early after {done}; no bound of the validation cells was finite, and the last weights are kept"
        if self.best_epoch is None:
            return f"interrupted after {done}; what they reached is kept" if self.interrupted else done
        how = "interrupted after " if self.interrupted else "stopped early after " if self.stopped_early else ""
        return f"{how}{done}; the weights of epoch {self.best_epoch:,}, best for the validation cells, are kept"
