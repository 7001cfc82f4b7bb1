"""Norms of gradients, and their clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from torch import nn

#: Added to the norm that clipping divides by, as `torch.nn.utils.clip_grad_norm_` does.
_EPSILON = 1e-6


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require gradients, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def named_gradients(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Gradients of those parameters that have one."""
    return {name: value.grad for name, value in parameters.items() if value.grad is not None}


def gradient_norms(gradients: Collection[torch.Tensor]) -> torch.Tensor:
    """Norm of each gradient, (k,). Its own norm is that of all of them; not finite where a gradient is not.

    Examples
    --------
    >>> gradient_norms([torch.ones(4), torch.zeros(2, 2)])
    tensor([2., 0.])
    """
    return torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]) if gradients else torch.zeros(1)


@torch.no_grad()
def clip_gradients(gradients: Iterable[torch.Tensor], norm: torch.Tensor, largest: float) -> None:
    """Shorten gradients in place, so that their joint norm, which is given, is at most `largest`.

    The result is that of `torch.nn.utils.clip_grad_norm_`, which computes the norm once more.

    Examples
    --------
    >>> gradient = torch.tensor([3.0, 4.0])
    >>> clip_gradients([gradient], gradient.norm(), 1.0)
    >>> gradient
    tensor([0.6000, 0.8000])
    """
    factor = (largest / (norm + _EPSILON)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
