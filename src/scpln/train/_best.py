"""The parameters with the least loss so far, and how long ago that was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._parameters import copy_parameters, restore_parameters

if TYPE_CHECKING:
    import torch
    from torch import nn


class BestParameters:
    """Keeps a copy of the parameters that had the least loss, and counts the epochs since then.

    Parameters
    ----------
    patience
        Epochs without improvement after which training should stop.

    Attributes
    ----------
    epoch
        Epoch of the copy, None as long as there is none: a loss that is NaN improves on nothing.

    Examples
    --------
    >>> import torch
    >>> module, best = torch.nn.Linear(1, 1, bias=False), BestParameters(patience=2)
    >>> for epoch, loss in enumerate([3.0, 1.0, 2.0, 5.0], start=1):
    ...     _ = torch.nn.init.constant_(module.weight, loss)
    ...     best.update(loss, module, epoch)
    >>> best.epoch, best.stopped
    (2, True)
    >>> best.load_into(module)
    >>> module.weight.item()
    1.0
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.epoch: int | None = None
        self._loss, self._waited = math.inf, 0
        self._weights: dict[str, torch.Tensor] = {}

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end."""
        return self._waited >= self.patience

    def update(self, loss: float, module: nn.Module, epoch: int) -> None:
        """See whether the loss has improved after an epoch, and copy the parameters if so."""
        if loss < self._loss:
            self._loss, self._waited, self.epoch = loss, 0, epoch
            self._weights = copy_parameters(module)
        else:
            self._waited += 1

    def load_into(self, module: nn.Module) -> None:
        """Give a module the best parameters, if there are any yet."""
        restore_parameters(module, self._weights)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"epoch": self.epoch, "loss": self._loss, "waited": self._waited, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.epoch, self._weights = state_dict["epoch"], state_dict["weights"]
        self._loss, self._waited = state_dict["loss"], state_dict["waited"]
