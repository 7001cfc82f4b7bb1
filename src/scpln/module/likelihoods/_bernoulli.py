"""Whether a count is not zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ._base import Likelihood
from ._blocks import LogProbBlock

if TYPE_CHECKING:
    from torch import Tensor

    from scpln.module._count_batch import CountBatch


class Bernoulli(Likelihood):
    r"""Presence of counts: whether a Poisson count with log-rate η is not zero (complementary log-log link).

    .. math:: \log p(0 | η) = -e^η, \quad \log p(1 | η) = \log(1 - e^{-e^η})

    So log size factors and coefficients mean what they do for counts. For binarised accessibility; counts above 1 count
    as 1.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import torch
    >>> likelihood = Bernoulli(3)
    >>> likelihood.log_prob(torch.zeros(3), torch.tensor([0, 1, 7]))
    tensor([-1.0000, -0.4587, -0.4587])
    >>> likelihood.mean(torch.zeros(3))
    tensor([0.6321, 0.6321, 0.6321])
    """

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> BernoulliBlock:
        return BernoulliBlock(batch, rows)

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        return torch.where(y > 0, _log_presence(eta), -eta.exp())

    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """E[y] = 1 − exp(−e^η), a probability."""
        return -torch.expm1(-eta.exp())

    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """Var[y] = P(1) P(0)."""
        return self._mean(eta) * (-eta.exp()).exp()

    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        return torch.bernoulli(self._mean(eta), generator=generator)


def _log_presence(eta: Tensor) -> Tensor:
    """Log P(1), accurate to rounding where it is near η (small rates) and where it is near 0 (large rates)."""
    small, large = eta.clamp(-80, 0).exp(), eta.clamp(min=0).exp()
    return torch.where(eta < 0, eta + (-torch.expm1(-small) / small).log(), torch.log1p(-(-large).exp()))


class BernoulliBlock(LogProbBlock):
    r""":math:`-e^η` at zeros, :math:`\log(1 - e^{-e^η})` elsewhere.

    With rate :math:`r = e^η` their slopes are −r and :math:`r / (e^r - 1)`.
    """

    def __init__(self, batch: CountBatch, rows: slice) -> None:
        self.present = batch.positions(rows)

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability; keeps e^η."""
        value = torch.exp(eta, out=kept).neg()
        value.view(-1)[self.present] = _log_presence(eta.reshape(-1)[self.present])
        return value

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivative by η."""
        slope, rate = -kept, kept.view(-1)[self.present]
        slope.view(-1)[self.present] = torch.where(rate < 1e-30, 1.0, rate / torch.expm1(rate))
        return [slope]
