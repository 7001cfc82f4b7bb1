"""The device that a module is trained on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from torch import nn


class Movable(Protocol):
    """What can be put on a device."""

    def to(self, device: torch.device | str) -> Self:
        """The same there."""


AnyBatch = TypeVar("AnyBatch", bound=Movable)


@contextmanager
def on_device(module: nn.Module, device: torch.device | str | None) -> Iterator[None]:
    """Have a module on a device, or where it is, for as long as this lasts; then back on the CPU.

    Examples
    --------
    >>> module = torch.nn.Linear(1, 1)
    >>> with on_device(module, "cpu"):
    ...     module.weight.device
    device(type='cpu')
    """
    if device is None:
        yield
        return
    try:
        module.to(device)
        yield
    finally:
        module.cpu()


def batch_to(batch: AnyBatch, device: torch.device | str | None) -> AnyBatch:
    """A batch on a device, or where it is; tensors of the CPU are not looked at, since they are there already."""
    return batch if device is None or torch.device(device).type == "cpu" else batch.to(device)
