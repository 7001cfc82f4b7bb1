"""Copies of a module's parameters and buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


def copy_parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copy of the parameters and buffers, on their device.

    Examples
    --------
    >>> module = torch.nn.Linear(1, 1, bias=False)
    >>> before = copy_parameters(module)
    >>> _ = torch.nn.init.constant_(module.weight, 7.0)
    >>> restore_parameters(module, before)
    >>> torch.equal(module.weight, before["weight"])
    True
    """
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@torch.no_grad()
def restore_parameters(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put copied parameters and buffers back, in place; those that were not copied stay."""
    for name, value in module.state_dict().items():
        if name in tensors:
            value.copy_(tensors[name])
