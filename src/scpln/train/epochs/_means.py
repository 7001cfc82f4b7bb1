"""Means over the cells of an epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


class Means:
    """Means over the cells of an epoch, from sums over cells in double precision.

    Parameters
    ----------
    stage
        Which cells these are.
    objective
        Name of what the losses of cells add up to minus of.

    Examples
    --------
    >>> means = Means("train")
    >>> means.add(2, loss=3.0, parts={"reconstruction_loss": 5.0, "kl_local": 1.0})
    >>> means.add(1, loss=3.0, parts={"reconstruction_loss": 4.0, "kl_local": 2.0})
    >>> means.history()
    {'train_loss': 3.0, 'elbo_train': -4.0, 'reconstruction_loss_train': 3.0, 'kl_local_train': 1.0}
    >>> means.losses()["elbo_train"], means.loss
    (4.0, 4.0)
    """

    def __init__(self, stage: Literal["train", "validation"], objective: str = "elbo") -> None:
        self._stage, self._objective = stage, objective
        self.n_cells = 0
        self._loss = 0.0
        self._parts: dict[str, float] = {}

    def add(self, n_cells: int, *, loss: float, parts: Mapping[str, float]) -> None:
        """Add a batch, given the mean of its loss and the sums of its parts over cells."""
        self.n_cells += n_cells
        self._loss += n_cells * loss
        for name, value in parts.items():
            self._parts[name] = self._parts.get(name, 0.0) + value

    @property
    def loss(self) -> float:
        """Minus the mean objective; NaN without cells."""
        return sum(self._parts.values()) / (self.n_cells or math.nan)

    def history(self) -> dict[str, float]:
        """Means, of which the objective is the better the higher, and what is called a loss the better the lower."""
        n = self.n_cells or math.nan
        return {
            f"{self._stage}_loss": self._loss / n,
            f"{self._objective}_{self._stage}": -self.loss,
            **{f"{name}_{self._stage}": value / n for name, value in self._parts.items()},
        }

    def losses(self) -> dict[str, float]:
        """The same as scvi-tools has it for Lightning's callbacks and loggers, where "elbo" is minus the bound."""
        return {**self.history(), f"{self._objective}_{self._stage}": self.loss}
