"""Negative binomial counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.distributions import NegativeBinomial as TorchNegativeBinomial

from ._base import CountLikelihood, at_nonzeros, draw_poisson
from ._blocks import CountBlock
from ._bounds import soft_clamp
from ._gamma import log_binomial

if TYPE_CHECKING:
    from torch import Tensor

    from scpln.module._count_batch import CountBatch

#: Range of log θ. Below it, variances of the largest rates overflow float32; above it, counts are Poisson.
LOG_THETA_RANGE = (-10.0, 15.0)
#: Range of θ at the start, where each distribution of the range still has a gradient.
START_RANGE = (0.02, 200.0)
#: Values of θ for which zeros are expected before θ is known.
START_GRID = tuple(np.geomspace(*START_RANGE, 9))


class NegativeBinomial(CountLikelihood):
    r"""Negative binomial counts with mean :math:`μ = e^η` and inverse dispersion θ: variance :math:`μ + μ^2 / θ`.

    .. math::
        \log p(y | η) = -y\, \text{softplus}(-x) - θ\, \text{softplus}(x)
            + \log Γ(y + θ) - \log Γ(θ) - \log y!, \quad x = η - \log θ

    Each softplus is exact to rounding where it is small, so large θ (Poisson) and large μ/θ lose nothing, and the
    log-gamma functions, at non-zeros only, are taken in float64: for counts up to 10⁴ at rates that suit them, float32
    is off by less than 10⁻⁴ nats with θ ≤ 10³, and by 0.004 with θ = 10⁶. Log θ is the parameter, within [−10, 15]
    (softly, `soft_clamp`).

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from scpln.module._count_batch import CountBatch
    >>> likelihood = NegativeBinomial(2)
    >>> likelihood.gene_parameters()
    {'inverse_dispersion': tensor([10., 10.])}
    >>> likelihood.log_likelihood(torch.zeros(1, 2), CountBatch.from_counts(np.array([[0, 2]]))).detach()
    tensor([-2.6947])
    >>> likelihood.variance(torch.zeros(2)).detach()
    tensor([1.1000, 1.1000])
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.log_inverse_dispersion = nn.Parameter(torch.full((n_genes,), 10.0).log())

    def gene_parameters(self) -> dict[str, Tensor]:
        """``inverse_dispersion`` θ."""
        return {"inverse_dispersion": self._constrain(self.log_inverse_dispersion)[0].exp().detach()}

    def _constrain(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        return (soft_clamp(parameters[0], *LOG_THETA_RANGE),)

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> NegativeBinomialBlock:
        return NegativeBinomialBlock(batch, rows, *parameters)

    def _constants(self, batch: CountBatch, *parameters: Tensor) -> Tensor:
        return log_binomial(batch.values.double(), at_nonzeros(parameters[0], batch))

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        log_theta = parameters[0]
        distribution = TorchNegativeBinomial(log_theta.exp(), logits=eta - log_theta, validate_args=False)
        return distribution.log_prob(y)

    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """E[y] = e^η."""
        return eta.exp()

    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """Var[y] = μ + μ²/θ."""
        mu = eta.exp()
        return mu + mu.square() / parameters[0].exp()

    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        # A Poisson rate with a gamma distribution, which torch draws from its global generator only.
        theta = parameters[0].exp().expand(eta.shape)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        gamma = torch.from_numpy(np.random.default_rng(seed).standard_gamma(theta.cpu().numpy())).to(eta.device)
        return draw_poisson(gamma / theta * eta.exp(), generator)

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        return overdispersion_sums(batch, expected)

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Start θ at moments."""
        self.log_inverse_dispersion.copy_(-overdispersion(sums).log())

    def _probable_zeros(self, expected: Tensor) -> Tensor:
        return torch.stack([(-theta * (expected / theta).log1p()).exp().sum(0) for theta in START_GRID])

    def _choose_zeros(self, zeros: Tensor) -> Tensor:
        grid = torch.tensor(START_GRID, dtype=torch.float64, device=self.log_inverse_dispersion.device).log()
        nearest = (grid[:, None] - self.log_inverse_dispersion).abs().argmin(0)
        return zeros.gather(0, nearest[None])[0]


def overdispersion_sums(batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
    """Sums for the overdispersion φ by moments: :math:`E[(y - A)^2 - A] = φ A^2`."""
    squares = expected.square()
    return {
        "excess": ((batch.dense - expected).square() - expected).sum(0),
        "squares": squares.sum(0),
        "noise": (2 * squares + expected).sum(0),
    }


def overdispersion(sums: dict[str, Tensor]) -> Tensor:
    r"""Overdispersion φ of each gene by moments, that of genes with few counts shrunken towards the mean of all.

    The estimate of a gene has about the variance :math:`v = Σ (2 A^2 + A) / (Σ A^2)^2`. Its weight against :math:`φ_0`, the
    mean with weights 1/v, is :math:`φ_0^2 / (φ_0^2 + v)`.
    """
    squares = sums["squares"].clamp(min=1e-30)
    smallest, largest = 1 / START_RANGE[1], 1 / START_RANGE[0]
    phi = (sums["excess"] / squares).clamp(smallest, largest)
    information = squares.square() / sums["noise"].clamp(min=1e-30)
    common = ((phi * information).sum() / information.sum().clamp(min=1e-30)).clamp(smallest, largest)
    weight = information / (information + common**-2)
    return weight * phi + (1 - weight) * common


class NegativeBinomialBlock(CountBlock):
    r""":math:`-y\, \text{softplus}(-x) - θ\, \text{softplus}(x)`, with :math:`x = η - \log θ`.

    Its slopes are :math:`s = y σ(-x) - θ σ(x)` by η and :math:`-s - θ\, \text{softplus}(x)` by log θ.
    """

    def __init__(self, batch: CountBatch, rows: slice, log_theta: Tensor) -> None:
        self.y, self.log_theta, self.theta = batch.dense[rows], log_theta, log_theta.exp()

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability without log-gamma functions; keeps that of a zero, −θ softplus(x)."""
        x = eta - self.log_theta
        # −softplus(−|x|) = log(1 − σ(−|x|)): exact to rounding, and a sigmoid is quicker than an exponential.
        torch.abs(x, out=kept).neg_().sigmoid_().neg_().log1p_()
        positive = x.clamp(min=0)
        below = x.sub_(positive).add_(kept)
        kept.sub_(positive).mul_(self.theta)
        return torch.addcmul(kept, self.y, below, out=below)

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives by η and log θ."""
        x = eta - self.log_theta
        by_eta = (-x).sigmoid_().mul_(self.y).addcmul_(x.sigmoid_(), self.theta, value=-1)
        return [by_eta, kept - by_eta]
