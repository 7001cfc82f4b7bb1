"""Bounds of log-rates and log-parameters that keep a gradient."""

from __future__ import annotations

import math
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


def expected_rate(mean: Tensor, variance: Tensor, upper: float = LARGEST_LOG_RATE) -> Tensor:
    r"""Mean of :math:`e^{\text{bound}(η)}` for η ~ N(m, v), where bound is `soft_clamp` at `upper`; never infinite.

    Where the bound is out of reach this is :math:`e^{m + v/2}`. Otherwise, with :math:`s = \sqrt v`, :math:`d = (m - u)/s`
    and :math:`t = (u - m - v)/s`,

    .. math:: e^{m + v/2} Φ(t) + e^u \left[(1 + m - u) Φ(d) + s φ(d)\right].

    Parameters
    ----------
    mean, variance
        Moments of η, float64, of one shape.
    upper
        Where log-rates are bounded.

    Examples
    --------
    >>> import torch
    >>> mean, variance = torch.tensor([0.0, 0.0, 900.0]).double(), torch.tensor([1.0, 2000.0, 0.0]).double()
    >>> expected_rate(mean, variance).log()
    tensor([ 0.5000, 27.1228, 31.7754], dtype=torch.float64)
    """
    far = reaches_bound(mean, variance, upper, sds=8.0)
    if not bool(far.any()):
        return (mean + variance / 2).exp_()
    rates = torch.where(far, 0.0, mean + variance / 2).exp_()
    m, v = mean[far], variance[far]
    s = v.sqrt().clamp(min=1e-150)
    d, t = (m - upper) / s, (upper - m - v) / s
    normal = (-d.square() / 2).exp() / math.sqrt(2 * math.pi)
    # Φ(t) in units of φ(t) where t < 0, so that neither factor is 0 or infinite; e^{m + v/2} φ(t) = e^u φ(d).
    plain = (m + v / 2).clamp(max=upper).exp() * torch.special.erfc(-t / math.sqrt(2)) / 2
    below = torch.where(t > 0, plain, math.exp(upper) * normal * _mills_ratio(t.clamp(max=0)))
    ratio = _mills_ratio(d.clamp(max=0))
    above = torch.where(
        d > 0,
        (1 + m - upper) * torch.special.erfc(-d / math.sqrt(2)) / 2 + s * normal,
        normal * (ratio + s * (1 + d * ratio).clamp(min=0)),
    )
    rates[far] = below + math.exp(upper) * above
    return rates


def _mills_ratio(x: Tensor) -> Tensor:
    """Φ(x) / φ(x)."""
    return math.sqrt(math.pi / 2) * torch.special.erfcx(-x / math.sqrt(2))


def reaches_bound(
    mean: Tensor, variance: Tensor | float = 0.0, upper: float = LARGEST_LOG_RATE, *, sds: float = 0.0
) -> Tensor:
    """Whether e^η, η ~ N(m, v), has its mean from beyond `upper`: from around m + v, or `sds` standard deviations above."""
    if isinstance(variance, float):
        return mean > upper
    return mean + variance + sds * variance.sqrt() > upper


def _is_inside(x: Tensor, lower: float, upper: float) -> bool:
    """Whether nothing is out of bounds, or not a number."""
    if x.numel() == 0:
        return True
    return (upper == torch.inf or bool(x.amax() <= upper)) and (lower == -torch.inf or bool(x.amin() >= lower))
