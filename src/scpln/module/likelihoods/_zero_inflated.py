"""Zero-inflated counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import softplus

from ._base import CountLikelihood, Likelihood, at_nonzeros
from ._blocks import CountBlock, LogProbBlock
from ._negative_binomial import NegativeBinomial
from ._poisson import Poisson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from scpln.module._count_batch import CountBatch

#: The parameter that is the logit of π.
GATE = "gate_logits"
#: Range of the zero-inflation probability at the start: small, and far from where the gate stops learning.
START_RANGE = (0.01, 0.5)
#: Cells without inflation that each gene has in addition at the start.
PRIOR_CELLS = 10


class ZeroInflated(Likelihood):
    r"""Counts that are zero with probability π, whatever their rate, and otherwise follow a base distribution.

    With the logit a of π, and :math:`\ell` the log-probability under the base distribution,

    .. math::
        \log p(0 | η) = \log(π + (1 - π) e^{\ell}) = \text{softplus}(\ell - a) - \text{softplus}(-a), \quad
        \log p(y | η) = \ell - \text{softplus}(a).

    Parameters
    ----------
    base
        Likelihood of the counts that are not forced to be zero.
    """

    def __init__(self, base: CountLikelihood) -> None:
        super().__init__(base.n_genes)
        self.base = base
        self.gate_logits = nn.Parameter(torch.full((base.n_genes,), -3.0))

    def gene_parameters(self) -> dict[str, Tensor]:
        """Those of the base distribution, and ``zero_inflation`` π, a probability."""
        return {**self.base.gene_parameters(), "zero_inflation": self.gate_logits.detach().sigmoid()}

    def _unconstrained(self) -> dict[str, Tensor]:
        return {**self.base._unconstrained(), "gate_logits": self.gate_logits}

    def _constrain(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        *of_base, gate = parameters
        return *self.base._constrain(*of_base), gate

    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> ZeroInflatedBlock:
        *of_base, gate = parameters
        return ZeroInflatedBlock(self.base._block(batch, rows, *of_base), batch.dense[rows], gate)

    def _constants(self, batch: CountBatch, *parameters: Tensor) -> Tensor:
        *of_base, gate = parameters
        log_kept = -softplus(at_nonzeros(gate, batch))
        base = self.base._constants(batch, *of_base)
        return log_kept if base is None else base + log_kept

    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        *of_base, gate = parameters
        base = self.base._log_prob(eta, y, *of_base)
        return torch.where(y == 0, softplus(base - gate) - softplus(-gate), base - softplus(gate))

    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """E[y] = (1 − π) E₀[y], from the mean of the base distribution."""
        *of_base, gate = parameters
        return (-gate).sigmoid() * self.base._mean(eta, *of_base)

    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """Var[y] = (1 − π) (Var₀[y] + π E₀[y]²), from the moments of the base distribution."""
        *of_base, gate = parameters
        mean, variance = self.base._mean(eta, *of_base), self.base._variance(eta, *of_base)
        return (-gate).sigmoid() * (variance + gate.sigmoid() * mean.square())

    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        *of_base, gate = parameters
        kept = torch.rand(eta.shape, generator=generator, dtype=eta.dtype, device=eta.device)
        return self.base._sample(eta, generator, *of_base) * (kept >= gate.sigmoid())

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        zeros = (batch.dense == 0).sum(0)
        return {
            **self.base._sums(batch, expected),
            "zeros": zeros,
            "probable_zeros": self.base._probable_zeros(expected),
            "cells": torch.full_like(zeros, len(batch)),
        }

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Start the base distribution, then π at the zeros beyond those that it expects.

        Z − E[Z] of the n − E[Z] cells expected to have counts, and a few more, so that genes almost without counts
        start with little inflation.
        """
        self.base._start(sums)
        expected = self.base._choose_zeros(sums["probable_zeros"])
        excess = (sums["zeros"] - expected) / (sums["cells"] - expected + PRIOR_CELLS)
        self.gate_logits.copy_(excess.clamp(*START_RANGE).logit())

    def extra_repr(self) -> str:
        """Nothing: the base distribution is shown as a submodule."""
        return ""


class ZeroInflatedPoisson(ZeroInflated):
    """Zero-inflated Poisson counts: `ZeroInflated` around `Poisson`.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import torch
    >>> likelihood = ZeroInflatedPoisson(2)
    >>> likelihood.gene_parameters()
    {'zero_inflation': tensor([0.0474, 0.0474])}
    >>> likelihood.log_prob(torch.zeros(2), torch.tensor([0, 2])).detach()
    tensor([-0.9217, -1.7417])
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__(Poisson(n_genes))


class ZeroInflatedNegativeBinomial(ZeroInflated):
    """Zero-inflated negative binomial counts: `ZeroInflated` around `NegativeBinomial`.

    Parameters
    ----------
    n_genes
        Number of genes p.

    Examples
    --------
    >>> import torch
    >>> likelihood = ZeroInflatedNegativeBinomial(2)
    >>> sorted(likelihood.gene_parameters())
    ['inverse_dispersion', 'zero_inflation']
    >>> likelihood.mean(torch.zeros(2)).detach()
    tensor([0.9526, 0.9526])
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__(NegativeBinomial(n_genes))


class InflatedByCell(ZeroInflated):
    r"""`ZeroInflated` with a probability of an excess zero for each cell, the same for all genes.

    Its logits are no parameters of genes: they are the deviations ``gate_logits`` that every method has to be given.

    Parameters
    ----------
    base
        Likelihood of the counts that are not forced to be zero.

    Raises
    ------
    ValueError
        A method is called without these deviations.

    Examples
    --------
    >>> from scpln.module.likelihoods import Poisson
    >>> likelihood = InflatedByCell(Poisson(2))
    >>> likelihood.mean(torch.zeros(1, 2), {"gate_logits": torch.zeros(1, 2)})
    tensor([[0.5000, 0.5000]])
    """

    def __init__(self, base: CountLikelihood) -> None:
        super().__init__(base)
        del self.gate_logits
        self.register_buffer(GATE, torch.zeros(1), persistent=False)

    def gene_parameters(self) -> dict[str, Tensor]:
        """Those of the base distribution."""
        return self.base.gene_parameters()

    def _bounded_parameters(
        self, dtype: torch.dtype, deviations: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        if GATE not in (deviations or {}):
            msg = (
                "zero_inflation='cell' has a probability of each cell, which follows from its counts: other counts cannot be drawn. "
                "Take zero_inflation='gene', or get_normalized_expression, which needs no probability."
            )
            raise ValueError(msg)
        return super()._bounded_parameters(dtype, deviations)

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Start the base distribution."""
        self.base._start(sums)


class ZeroInflatedBlock(LogProbBlock):
    r""":math:`\text{softplus}(\ell - a) - \text{softplus}(-a)` at zeros, :math:`\ell` elsewhere, from a base's ℓ.

    Of a zero, the share :math:`w = σ(a - \ell)` is the gate's: the base's slopes count 1 − w times, and the slope by
    a is :math:`w - σ(a)`.
    """

    def __init__(self, base: CountBlock, y: Tensor, gate: Tensor) -> None:
        self.base, self.gate = base, gate
        self.is_zero = y.sign().neg_().add_(1)

    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability, without what does not depend on η at non-zeros; keeps the base's ℓ of a zero."""
        base = self.base.value(eta, kept)
        zero = softplus(kept - self.gate).sub_(softplus(-self.gate))
        return base.lerp_(zero, self.is_zero)

    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives by η, the base distribution's parameters, and a."""
        share = (self.gate - kept).sigmoid_().mul_(self.is_zero)
        of_base = [slope.addcmul_(slope, share, value=-1) for slope in self.base.slopes(eta, kept)]
        return [*of_base, share.addcmul_(self.is_zero, self.gate.sigmoid(), value=-1)]
