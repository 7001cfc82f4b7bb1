"""Gaussian observations, of data that are not counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.distributions import Normal

from ._base import Likelihood
from ._blocks import LogProbBlock
from ._bounds import soft_clamp

if TYPE_CHECKING:
    from torch import Tensor

    from scpln.module._count_batch import CountBatch

#: Range of log σ: a gene without variance ends at about e⁻⁷, and does not pull the likelihood to infinity.
LOG_SD_RANGE = (-7.0, 15.0)
#: Smallest σ at the start, in the unit of the data.
SMALLEST_START = 1e-2


class Gaussian(Likelihood):
    r"""Gaussian observations :math:`y_{ij} \sim N(η_{ij}, σ_j^2)`: η is the mean itself, not a log-rate.

    Log σ is the parameter, within [−7, 15] (softly, `soft_clamp`) of `log_unit`, the logarithm of the unit of the data: 0, unless a
    solver found their spread.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import torch
    >>> likelihood = Gaussian(2)
    >>> likelihood.gene_parameters()
    {'sd': tensor([1., 1.])}
    >>> likelihood.log_prob(torch.zeros(2), torch.tensor([0.0, -1.0])).detach()
    tensor([-0.9189, -1.4189])
    """

    is_count: ClassVar[bool] = False
    largest_log_rate: ClassVar[float] = math.inf

    log_unit: Tensor
    not_shrunk = ("log_sd",)

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.log_sd = nn.Parameter(torch.zeros(n_genes))
        self.register_buffer("log_unit", torch.zeros(()))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Models of earlier versions have no unit."""
        state_dict.setdefault(f"{prefix}log_unit", torch.zeros_like(self.log_unit))
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def rescale(self, log_factor: float) -> None:
        """Take over values that are e to the `log_factor` times as large."""
        self.log_sd.add_(log_factor)
        self.log_unit.add_(log_factor)

    def gene_parameters(self) -> dict[str, Tensor]:
        """``sd`` σ."""
        return {"sd": self._constrain(self.log_sd)[0].exp().detach()}

    def _constrain(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        unit = self.log_unit.to(parameters[0])
        return (soft_clamp(parameters[0] - unit, *LOG_SD_RANGE) + unit,)

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> GaussianBlock:
        return GaussianBlock(batch, rows, *parameters)

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        return Normal(eta, parameters[0].exp(), validate_args=False).log_prob(y)

    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """E[y] = η."""
        return eta

    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """Var[y] = σ²."""
        return (2 * parameters[0]).exp().expand(eta.shape)

    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        noise = torch.randn(eta.shape, generator=generator, dtype=eta.dtype, device=eta.device)
        return eta + parameters[0].exp() * noise

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        squares = (batch.dense - expected).square().sum(0)
        return {"squares": squares, "cells": torch.full_like(squares, len(batch))}

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Start σ at the standard deviation of the residuals."""
        self.log_sd.copy_(
            (sums["squares"] / sums["cells"]).sqrt().clamp(min=SMALLEST_START * self.log_unit.exp()).log()
        )


class GaussianBlock(LogProbBlock):
    r""":math:`-r^2 / 2 - \log(σ \sqrt{2π})`, with :math:`r = (η - y) / σ`.

    Its slopes are :math:`-r / σ` and, by log σ, :math:`r^2 - 1`.
    """

    def __init__(self, batch: CountBatch, rows: slice, log_sd: Tensor) -> None:
        self.y, self.precision = batch.dense[rows], (-log_sd).exp()
        self.height = -0.5 * math.log(2 * math.pi) - log_sd

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-density; keeps r."""
        return torch.sub(eta, self.y, out=kept).mul_(self.precision).square().mul_(-0.5).add_(self.height)

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives by η and log σ."""
        return [kept * -self.precision, kept.square().sub_(1)]
