"""What a module returns for a step of training: something to differentiate, and what each cell contributes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Loss:
    """The loss of a batch of cells.

    Parameters
    ----------
    value
        What is differentiated: a scalar, with the weights and penalties of training.
    parts
        Losses of each cell, (n,) each, detached and without such weights. They add up to minus the objective, which is
        the evidence lower bound of an autoencoder: the smaller, the better.

    Examples
    --------
    >>> import torch
    >>> loss = Loss(torch.tensor(2.5), {"reconstruction_loss": torch.ones(3), "kl_local": torch.full((3,), 0.5)})
    >>> loss.of_cells
    tensor([1.5000, 1.5000, 1.5000])
    """

    value: torch.Tensor
    parts: dict[str, torch.Tensor]

    @property
    def of_cells(self) -> torch.Tensor:
        """Loss of each cell, (n,): minus what it contributes to the objective."""
        first, *others = self.parts.values()
        return sum(others, first)
