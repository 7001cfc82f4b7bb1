"""Bounds that keep a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_TILT = 0.95


def soft_clip(x: Tensor, bound: float) -> Tensor:
    r"""Bound smoothly: :math:`x / \sqrt{1 + (x / b)^2}`, the identity near 0 and within ±b everywhere.

    Examples
    --------
    >>> import torch
    >>> soft_clip(torch.tensor([-1e9, 0.1, 1.0, 100.0]), 10.0)
    tensor([-10.0000,   0.1000,   0.9950,   9.9504])
    """
    return x * torch.rsqrt(1 + (x / bound).square())


def tilt(anchor: Tensor, by: Tensor) -> Tensor:
    r"""Unit vectors along :math:`a / |a| + 0.95\, t / \sqrt{1 + |t|^2}`: an anchor a (..., q), tilted by t (..., q).

    Any direction less than 72° from the anchor is reached, and none is ever a zero vector's.

    Examples
    --------
    >>> import torch
    >>> tilt(torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 0.0], [1e3, 0.0]]))
    tensor([[0.0000, 1.0000],
            [0.6887, 0.7250]])
    """
    shortened = by * torch.rsqrt(1 + by.square().sum(-1, keepdim=True))
    return normalize(normalize(anchor, dim=-1) + _LARGEST_TILT * shortened, dim=-1)
