"""Poisson log-normal counts: a normal disturbance of each gene's log-rate, integrated out."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import nn

from ._base import Likelihood, draw_poisson
from ._blocks import LogProbBlock
from ._gamma import log_factorial
from ._laplace import LARGEST_SD, LaplaceCorrection, mode_shift, quadrature
from ._negative_binomial import overdispersion, overdispersion_sums

if TYPE_CHECKING:
    from torch import Tensor

    from scpln.module._count_batch import CountBatch

#: Smallest σ: counts are Poisson.
SMALLEST_SD = 1e-4
#: Where σ starts.
START = 0.3


class PoissonLogNormal(Likelihood):
    r"""Poisson counts whose log-rate has a normal disturbance with standard deviation σ of each gene.

    .. math:: y \sim \text{Poisson}(e^{η + σ t}), \quad t \sim N(0, 1), \quad
        \log p(y | η) = \log \int \text{Poisson}(y | e^{η + σ t})\, φ(t)\, dt

    With δ = σt at its largest, where :math:`δ + σ^2 e^{η + δ} = σ^2 y`, :math:`w = σ^2 e^{η + δ}`, and r what Laplace's
    approximation misses (`LaplaceCorrection`), the integral is

    .. math:: \log p(y | η) = y (η + δ) - e^{η + δ} - \frac{δ^2}{2σ^2} - \frac12 \log(1 + w) + r(w, σ) - \log y!,

    for whatever count: multiplied by :math:`e^{y σ t}`, a normal density is another normal density. `log_prob` integrates
    instead, by quadrature around that t. Of ``PLNPCA`` this makes a Poisson log-normal model whose covariance is low-rank plus
    diagonal.

    σ, within :math:`(10^{-4}, 3)`, is a sigmoid of the parameter. The mean is :math:`e^{η + σ^2 / 2}`: :math:`e^η` is the median rate.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from scpln.module._count_batch import CountBatch
    >>> likelihood = PoissonLogNormal(2)
    >>> likelihood.gene_parameters()
    {'log_rate_sd': tensor([0.3000, 0.3000])}
    >>> likelihood.log_likelihood(torch.zeros(1, 2), CountBatch.from_counts(np.array([[0, 2]]))).detach()
    tensor([-2.6985])
    >>> likelihood.log_prob(torch.zeros(2), torch.tensor([0, 2])).detach()
    tensor([-0.9991, -1.6994])
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.sd_logits = nn.Parameter(_logits(torch.full((n_genes,), START)))

    def log_mean_offset(self) -> Tensor:
        """σ²/2."""
        return (2 * self._constrain(self.sd_logits)[0]).exp() / 2

    def gene_parameters(self) -> dict[str, Tensor]:
        """``log_rate_sd`` σ."""
        return {"log_rate_sd": self._constrain(self.sd_logits)[0].exp().detach()}

    def _constrain(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        return ((SMALLEST_SD + (LARGEST_SD - SMALLEST_SD) * parameters[0].sigmoid()).log(),)

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> PoissonLogNormalBlock:
        return PoissonLogNormalBlock(batch, rows, *parameters)

    def _constants(self, batch: CountBatch, *parameters: Tensor) -> Tensor:
        return batch.values.double() * (batch.values.log() - 1) - log_factorial(batch.values)

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        eta, y, log_sd = torch.broadcast_tensors(eta, y, parameters[0])
        sd = log_sd.exp()
        nodes, log_weights = (torch.from_numpy(each).to(eta.device) for each in quadrature())
        with torch.no_grad():
            mode = mode_shift(eta, sd.square() * y, 2 * log_sd) / sd
            width = (1 + sd.square() * (eta + sd * mode).exp()).rsqrt()
            t = mode[..., None] + width[..., None] * nodes
        log_rate = eta[..., None] + sd[..., None] * t
        terms = y[..., None] * log_rate - log_rate.exp() - t.square() / 2 + log_weights
        return terms.logsumexp(-1) + width.log() - 0.5 * math.log(2 * math.pi) - torch.lgamma(y + 1)

    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """E[y] = exp(η + σ²/2)."""
        return (eta + (2 * parameters[0]).exp() / 2).exp()

    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """Var[y] = E[y] + E[y]² (exp(σ²) − 1)."""
        mean = self._mean(eta, *parameters)
        return mean + mean.square() * (2 * parameters[0]).exp().expm1()

    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        t = torch.randn(eta.shape, generator=generator, dtype=eta.dtype, device=eta.device)
        return draw_poisson((eta + parameters[0].exp() * t).exp(), generator)

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        return overdispersion_sums(batch, expected)

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Start σ at moments: the overdispersion is exp(σ²) − 1."""
        self.sd_logits.copy_(_logits(overdispersion(sums).log1p().sqrt()))


def _logits(sd: Tensor) -> Tensor:
    """Parameter whose σ is `sd`."""
    return ((sd - SMALLEST_SD) / (LARGEST_SD - SMALLEST_SD)).logit()


class PoissonLogNormalBlock(LogProbBlock):
    r""":math:`y (η - \log y + δ) + (δ - δ^2 / 2) / σ^2 - \log(1 + w) / 2 + r(w, σ)`, with :math:`w = σ^2 y - δ`.

    All but the last two terms are at their largest in δ, so that their slopes are those with δ as it is: with d = δ / σ², the
    expected residual but for a correction, d by η and δ d by log σ.
    """

    def __init__(self, batch: CountBatch, rows: slice, log_sd: Tensor) -> None:
        self.y, self.log_y, self.log_variance = batch.dense[rows], batch.log_dense[rows], 2 * log_sd
        self.variance, self.precision = self.log_variance.exp(), (-self.log_variance).exp()
        self.correction = LaplaceCorrection(log_sd)

    @cached_property
    def pull(self) -> Tensor:
        """σ² y."""
        return self.variance * self.y

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability relative to that at the best rate; keeps δ."""
        shift = mode_shift(eta, self.pull, self.log_variance, out=kept)
        value = torch.sub(eta, self.log_y).add_(shift).mul_(self.y)
        value.addcmul_(torch.mul(shift, -0.5).add_(1).mul_(shift), self.precision)
        w = self._curvature(shift)
        value.add_(self.correction.value(w))
        return value.sub_(w.log1p_(), alpha=0.5)

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives by η and log σ."""
        indirect, by_log_sd = self.correction.slopes(self._curvature(kept))
        by_log_sd.addcmul_(indirect, self.pull, value=2)
        residual = kept * self.precision
        by_log_sd.addcmul_(residual, kept)
        return [residual.add_(indirect), by_log_sd]

    def _curvature(self, shift: Tensor) -> Tensor:
        """Curvature w of a Poisson log-probability at its largest term, in units of 1/σ²."""
        return torch.sub(self.pull, shift).clamp_(min=0)
