"""Negative binomial counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.distributions import NegativeBinomial as TorchNegativeBinomial

from ._base import CountLikelihood, bound_log_rate, draw_poisson, soft_clamp
from ._blocks import CountBlock

if TYPE_CHECKING:
    from torch import Tensor

    from scpln.module._counts import CountBatch

#: Range of log θ. Below it, variances of the largest rates overflow float32; above it, counts are Poisson.
LOG_THETA_RANGE = (-10.0, 15.0)
#: Range of θ at the start, where each law of the range still has a gradient.
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
    >>> from scpln.module._counts import CountBatch
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
        return {"inverse_dispersion": self._theta(self.log_inverse_dispersion.dtype).detach()}

    def mean(self, eta: Tensor) -> Tensor:
        """E[y] = e^η."""
        return bound_log_rate(eta).exp()

    def variance(self, eta: Tensor) -> Tensor:
        """Var[y] = μ + μ²/θ."""
        mu = self.mean(eta)
        return mu + mu.square() / self._theta(eta.dtype)

    def _theta(self, dtype: torch.dtype) -> Tensor:
        return self._parameters_of_genes(dtype)[0].exp()

    def _parameters_of_genes(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return (soft_clamp(self.log_inverse_dispersion.to(dtype), *LOG_THETA_RANGE),)

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> NegativeBinomialBlock:
        return NegativeBinomialBlock(batch, rows, *parameters)

    def _constant(self, batch: CountBatch, *parameters: Tensor) -> Tensor:
        theta = parameters[0].double().exp()
        at_genes = torch.stack((theta, torch.lgamma(theta)), 1).index_select(0, batch.genes)
        gammas = torch.lgamma(batch.values + at_genes[:, 0]) - at_genes[:, 1]
        return batch.sum_of_nonzeros(gammas - batch.log_factorials)

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        log_theta = parameters[0]
        law = TorchNegativeBinomial(log_theta.exp(), logits=eta - log_theta, validate_args=False)
        return law.log_prob(y)

    def _sample(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        # A Poisson rate with a gamma distribution, which torch draws from its global generator only.
        theta = self._theta(eta.dtype).expand(eta.shape)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        gamma = torch.from_numpy(np.random.default_rng(seed).standard_gamma(theta.cpu().numpy())).to(eta.device)
        return draw_poisson(gamma / theta * eta.exp(), generator)

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        """Sums for θ by moments: :math:`E[(y - A)^2 - A] = A^2 / θ`."""
        squares = expected.square()
        return {
            "excess": ((batch.dense - expected).square() - expected).sum(0),
            "squares": squares.sum(0),
            "noise": (2 * squares + expected).sum(0),
        }

    def _start(self, sums: dict[str, Tensor]) -> None:
        r"""Start θ at moments, those of genes with few counts shrunken towards the mean of all.

        The estimate φ = 1/θ of a gene has about the variance :math:`v = Σ (2 A^2 + A) / (Σ A^2)^2`. Its weight
        against :math:`φ_0`, the mean with weights 1/v, is :math:`φ_0^2 / (φ_0^2 + v)`.
        """
        squares = sums["squares"].clamp(min=1e-30)
        smallest, largest = 1 / START_RANGE[1], 1 / START_RANGE[0]
        phi = (sums["excess"] / squares).clamp(smallest, largest)
        information = squares.square() / sums["noise"].clamp(min=1e-30)
        common = ((phi * information).sum() / information.sum().clamp(min=1e-30)).clamp(smallest, largest)
        weight = information / (information + common**-2)
        phi = weight * phi + (1 - weight) * common
        self.log_inverse_dispersion.copy_(-phi.log())

    def _probable_zeros(self, expected: Tensor) -> Tensor:
        return torch.stack([(-theta * (expected / theta).log1p()).exp().sum(0) for theta in START_GRID])

    def _choose_zeros(self, zeros: Tensor) -> Tensor:
        grid = torch.tensor(START_GRID, dtype=torch.float64, device=self.log_inverse_dispersion.device).log()
        nearest = (grid[:, None] - self.log_inverse_dispersion).abs().argmin(0)
        return zeros.gather(0, nearest[None])[0]


class NegativeBinomialBlock(CountBlock):
    r""":math:`-y\, \text{softplus}(-x) - θ\, \text{softplus}(x)`, with :math:`x = η - \log θ`.

    Its slopes are :math:`s = y σ(-x) - θ σ(x)` by η and :math:`-s - θ\, \text{softplus}(x)` by log θ.
    """

    def __init__(self, batch: CountBatch, rows: slice, log_theta: Tensor) -> None:
        self.y, self.log_theta, self.theta = batch.dense[rows], log_theta, log_theta.exp()

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability without log-gamma functions; keeps log(1 + e^−|x|)."""
        x = eta - self.log_theta
        torch.abs(x, out=kept).neg_().exp_().log1p_()
        positive = x.clamp(min=0)
        # softplus(x) = max(x, 0) + kept, and softplus(−x) = max(x, 0) − x + kept.
        below = x.sub_(positive).sub_(kept).mul_(self.y)
        return below.sub_(positive.add_(kept).mul_(self.theta))

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives by η and log θ."""
        x = eta - self.log_theta
        by_eta = (-x).sigmoid_().mul_(self.y).sub_(x.sigmoid_().mul_(self.theta))
        return [by_eta, self.zero(eta, kept).sub_(by_eta)]

    def zero(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability −θ softplus(x)."""
        return (eta - self.log_theta).clamp_(min=0).add_(kept).mul_(-self.theta)
