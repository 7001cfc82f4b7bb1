"""Bounds of log-rates and log-parameters that keep a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Log-rate beyond which rates grow linearly: e²⁵ counts are more than any cell has.
LARGEST_LOG_RATE = 25.0


def soft_clamp(x: Tensor, lower: float = -torch.inf, upper: float = torch.inf) -> Tensor:
    r"""Identity on [lower, upper]; beyond, growth slows to that of a logarithm: `upper` + log(1 + x − `upper`).

    Unlike a clamp it has a gradient everywhere, 1/(1 + excess), so what has gone astray finds back. It is finite for
    all finite x, and its derivative continuous. Where all of x is inside, as it nearly always is, it is x itself.

    Examples
    --------
    >>> import torch
    >>> soft_clamp(torch.tensor([-1e4, 0.5, 25.0, 1e4]), lower=-10.0, upper=25.0)
    tensor([-19.2094,   0.5000,  25.0000,  34.2079])
    """
    if _is_inside(x.detach(), lower, upper):
        return x
    inside = x.clamp(lower, upper)
    excess = x - inside
    return inside + excess.sign() * excess.abs().log1p()


def _is_inside(x: Tensor, lower: float, upper: float) -> bool:
    """Whether nothing is out of bounds, or not a number."""
    if x.numel() == 0:
        return True
    return (upper == torch.inf or bool(x.amax() <= upper)) and (lower == -torch.inf or bool(x.amin() >= lower))
