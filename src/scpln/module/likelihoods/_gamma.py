"""Log-gamma functions of counts, most of which are small."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor

#: Factorials below this one are looked up.
N_FACTORIALS = 1024
#: Largest count whose binomial coefficient is a product; log-gamma functions are quicker for larger ones.
LARGEST_PRODUCT = 4


def log_factorial(y: Tensor) -> Tensor:
    r""":math:`\log y! = \log Γ(y + 1)`, in float64.

    Examples
    --------
    >>> import torch
    >>> log_factorial(torch.tensor([1.0, 3.0, 0.5])).exp()
    tensor([1.0000, 6.0000, 0.8862], dtype=torch.float64)
    """
    if y.numel() == 0 or (bool(y.amax() < N_FACTORIALS) and torch.equal(y, y.round())):
        return _log_factorials(y.device).index_select(0, y.long().reshape(-1)).reshape(y.shape)
    return torch.lgamma(y.double() + 1)


def log_binomial(y: Tensor, log_theta: Tensor) -> Tensor:
    r"""Generalised binomial coefficient of positive counts, :math:`\log Γ(y + θ) - \log Γ(θ) - \log y!`.

    That of a small count is :math:`\log \prod_{k<y} (θ + k) / (k + 1)`, no more than log θ for the most frequent one;
    so is its derivative by θ, :math:`ψ(y + θ) - ψ(θ) = \sum_{k<y} 1 / (θ + k)`. Differentiable once, by log θ.

    Parameters
    ----------
    y
        Counts above 0, (m,), in float64.
    log_theta
        Log θ, (..., m), in float64.

    Examples
    --------
    >>> import torch
    >>> log_binomial(torch.tensor([1.0, 2.0]).double(), torch.tensor([3.0, 3.0]).double().log()).exp()
    tensor([3.0000, 6.0000], dtype=torch.float64)
    """
    return _LogBinomial.apply(y, log_theta)


class _LogBinomial(torch.autograd.Function):
    """`log_binomial` and its derivative by log θ, computed together."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, log_theta: Tensor) -> Tensor:
        """Log θ for counts of 1, a product for other small ones, log-gamma functions for the rest."""
        value, slope = log_theta.clone(), torch.ones_like(log_theta)
        others = (y != 1).nonzero()[:, 0]
        if len(others):
            y, theta = y[others], log_theta[..., others].exp()
            is_small = (y <= LARGEST_PRODUCT) & (y == y.round())
            product, harmonic = theta.clone(), theta.reciprocal()
            for k in range(1, LARGEST_PRODUCT):
                is_factor, factor = y > k, theta + k
                product *= torch.where(is_factor, factor / (k + 1), 1.0)
                harmonic += torch.where(is_factor, factor.reciprocal(), 0.0)
            log_product = product.log()
            large = (~is_small).nonzero()[:, 0]
            if len(large):
                y, few = y[large], theta[..., large]
                log_product[..., large] = torch.lgamma(y + few) - torch.lgamma(few) - log_factorial(y)
                harmonic[..., large] = torch.digamma(y + few) - torch.digamma(few)
            value[..., others], slope[..., others] = log_product, theta * harmonic
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """Gradient by log θ."""
        (slope,) = ctx.saved_tensors
        return None, gradient * slope


@lru_cache
def _log_factorials(device: torch.device) -> Tensor:
    return torch.lgamma(torch.arange(1, N_FACTORIALS + 1, dtype=torch.float64, device=device))
