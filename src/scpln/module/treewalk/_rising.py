"""Rising factorials of tensors."""

from __future__ import annotations

import torch

from scpln.core._rising import LARGE


def log_rising(a: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    r""":math:`\log Γ(a + n) - \log Γ(a)`, for a > 0 and n ≥ 0, as `scpln.core.log_rising`, with slopes.

    Examples
    --------
    >>> a = torch.tensor([3.0, 1e16], dtype=torch.float64)
    >>> log_rising(a, torch.tensor(2.0))
    tensor([ 2.4849, 73.6827], dtype=torch.float64)
    """
    is_large = a > LARGE
    if not is_large.any():
        return torch.lgamma(a + n) - torch.lgamma(a)
    small, large = torch.where(is_large, 1.0, a), torch.where(is_large, a, LARGE)
    end = large + n
    series = (large - 0.5) * torch.log1p(n / large) + n * end.log() - n
    series = series + (1 / end - 1 / large) / 12 - (end**-3 - large**-3) / 360
    return torch.where(is_large, series, torch.lgamma(small + n) - torch.lgamma(small))
