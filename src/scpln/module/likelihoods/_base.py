"""What every observation law does, and the bounds of log-rates and log-parameters."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from ._blocks import SumOverGenes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from scpln.module._counts import CountBatch

    from ._blocks import Block, CountBlock

#: Log-rate beyond which rates grow linearly: e²⁵ counts are more than any cell has.
LARGEST_LOG_RATE = 25.0
#: Log of the largest rate that counts are drawn with, where generators still work.
LARGEST_DRAWN_LOG_RATE = 40.0


def soft_clamp(x: Tensor, lower: float = -torch.inf, upper: float = torch.inf) -> Tensor:
    r"""Identity on [lower, upper]; beyond, growth slows to that of a logarithm: `upper` + log(1 + x − `upper`).

    Unlike a clamp it has a gradient everywhere, 1/(1 + excess), so what has gone astray finds back. It is finite for
    all finite x, and its derivative continuous.

    Examples
    --------
    >>> import torch
    >>> soft_clamp(torch.tensor([-1e4, 0.5, 25.0, 1e4]), lower=-10.0, upper=25.0)
    tensor([-19.2094,   0.5000,  25.0000,  34.2079])
    """
    inside = x.clamp(lower, upper)
    excess = x - inside
    return inside + excess.sign() * excess.abs().log1p()


def bound_log_rate(eta: Tensor) -> Tensor:
    r"""Log-rates that do not overflow: η up to 25, and 25 + log(1 + η − 25) beyond.

    The rate :math:`e^η` is thereby continued along its tangent at η = 25: it grows linearly, and a Poisson
    log-likelihood stays concave. Every law with a rate takes its η through here, so what is reported for η > 25 is the
    exact log-probability of counts with that rate.

    Examples
    --------
    >>> import torch
    >>> bound_log_rate(torch.tensor([-100.0, 3.0, 26.0]))
    tensor([-100.0000,    3.0000,   25.6931])
    """
    if eta.numel() == 0 or bool(eta.detach().amax() <= LARGEST_LOG_RATE):
        return eta
    return soft_clamp(eta, upper=LARGEST_LOG_RATE)


class Likelihood(nn.Module, ABC):
    r"""Observation law :math:`p(y_{ij} | η_{ij})` with parameters of each gene.

    Parameters are unconstrained, (p,) each, and follow the precision of η. Log-rates are any real numbers
    (`bound_log_rate`).

    Parameters
    ----------
    n_genes
        Number of genes p.
    """

    #: Whether observations are counts.
    is_count: ClassVar[bool] = True

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        if n_genes < 1:
            msg = f"n_genes={n_genes!r}, but a likelihood needs one gene or more."
            raise ValueError(msg)
        self.n_genes = n_genes

    def log_likelihood(self, eta: Tensor, batch: CountBatch) -> Tensor:
        r"""Exact log-probability of each cell, :math:`\sum_j \log p(y_{ij} | η_{ij})`, in nats.

        The fast path: one pass over blocks of η, and log-gamma functions once per batch, on non-zeros. Differentiable
        (once) by η and the gene parameters.

        Parameters
        ----------
        eta
            η, (..., n, p): leading dimensions are draws.
        batch
            Counts of these n cells, of the same precision.

        Returns
        -------
        (..., n).
        """
        y = batch.dense
        if eta.ndim < 2 or eta.shape[-2:] != y.shape or eta.shape[-1] != self.n_genes:
            msg = (
                f"eta has shape {tuple(eta.shape)} and the batch {tuple(y.shape)}; "
                f"expected (..., n, {self.n_genes}) and (n, {self.n_genes})."
            )
            raise ValueError(msg)
        if eta.dtype != y.dtype:
            msg = f"eta is {eta.dtype} and the batch {y.dtype}; make the batch with dtype={eta.dtype}."
            raise ValueError(msg)
        parameters = self._parameters_of_genes(eta.dtype)
        draws = self._bound(eta).reshape(eta.shape[:-2].numel(), *y.shape)
        differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in (draws, *parameters))
        total = SumOverGenes.apply(draws, batch, self._block, differentiable, *parameters)
        total = (total + self._constant(batch, *parameters)).to(eta.dtype)
        return total.reshape(eta.shape[:-1])

    def log_prob(self, eta: Tensor, y: Tensor) -> Tensor:
        """Log-probability of each entry, in nats; η (..., p) and y broadcast.

        Written for clarity, and computed in float64 whatever the precision of η: `log_likelihood` is the fast one.
        """
        parameters = self._parameters_of_genes(torch.float64)
        return self._log_prob(self._bound(eta).double(), y.double(), *parameters).to(eta.dtype)

    @abstractmethod
    def mean(self, eta: Tensor) -> Tensor:
        """E[y] of each entry, (..., p)."""

    @abstractmethod
    def variance(self, eta: Tensor) -> Tensor:
        """Var[y] of each entry, (..., p)."""

    def sample(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        """Draw y of each entry, in the precision of η; rates beyond e⁴⁰ draw at e⁴⁰."""
        with torch.no_grad():
            return self._sample(self._bound(eta).double(), generator).to(eta.dtype)

    def gene_parameters(self) -> dict[str, Tensor]:
        """Gene parameters on their natural scale, (p,) each, detached."""
        return {}

    def subset(self, genes: Any) -> Likelihood:
        """Copy for some of the genes, given as an index of a vector (positions, mask or slice)."""
        part = copy.deepcopy(self)
        for module in part.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(parameter.detach()[genes]))
            if isinstance(module, Likelihood):
                module.n_genes = len(torch.arange(self.n_genes)[genes])
        return part

    @torch.no_grad()
    def initialise(self, batches: Iterable[tuple[CountBatch, Tensor]]) -> None:
        """Start the gene parameters at moments of the data, in one pass.

        Parameters
        ----------
        batches
            Counts, and what a Poisson fit expects in their place: :math:`E[y_{ij}]`, (n, p).
        """
        sums: dict[str, Tensor] = {}
        for batch, expected in batches:
            for name, value in self._sums(batch, expected.double()).items():
                sums[name] = sums[name] + value if name in sums else value
        if sums:
            self._start(sums)

    def _bound(self, eta: Tensor) -> Tensor:
        return bound_log_rate(eta)

    def _parameters_of_genes(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Gene parameters within their bounds, in the order in which the methods below take them."""
        return ()

    @abstractmethod
    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> Block:
        """Law of consecutive cells."""

    @abstractmethod
    def _constant(self, batch: CountBatch, *parameters: Tensor) -> Tensor:
        """Terms of each cell that do not depend on η, in float64 where they may be large, (n,)."""

    @abstractmethod
    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        """`log_prob`, all in float64."""

    @abstractmethod
    def _sample(self, eta: Tensor, generator: torch.Generator) -> Tensor:
        """`sample`, all in float64."""

    def _sums(self, batch: CountBatch, expected: Tensor) -> dict[str, Tensor]:
        """Sums over cells that `_start` needs, by name, (p,) or with the genes last."""
        return {}

    def _start(self, sums: dict[str, Tensor]) -> None:
        """Set the gene parameters from sums over all cells."""

    def extra_repr(self) -> str:
        """Arguments of the constructor, for the representation."""
        return str(self.n_genes)


class CountLikelihood(Likelihood):
    """Law of counts that zero inflation can wrap."""

    @abstractmethod
    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> CountBlock:
        """Law of consecutive cells."""

    @abstractmethod
    def _probable_zeros(self, expected: Tensor) -> Tensor:
        """Number of zeros that each gene should have, (..., p): leading dimensions are parameters that may be set."""

    @abstractmethod
    def _choose_zeros(self, zeros: Tensor) -> Tensor:
        """Of those, summed over batches, the number for the parameters that have been set, (p,)."""


def draw_poisson(rate: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson counts with these rates, at most e⁴⁰."""
    return torch.poisson(rate.clamp(max=math.exp(LARGEST_DRAWN_LOG_RATE)), generator=generator)
