"""What every likelihood does."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from ._blocks import SumOverGenes
from ._bounds import LARGEST_LOG_RATE, soft_clamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

    from scpln.module._count_batch import CountBatch

    from ._blocks import CountBlock, LogProbBlock

#: Log of the largest rate that counts are drawn with, where generators still work.
LARGEST_DRAWN_LOG_RATE = 40.0


class Likelihood(nn.Module, ABC):
    r"""Likelihood :math:`p(y_{ij} | η_{ij})` with parameters of each gene.

    Parameters are unconstrained, (p,) each, and follow the precision of η. Log-rates are any real numbers
    (`soft_clamp` bounds them at 25, so that rates grow linearly beyond).

    *Deviations* make parameters vary by cell: by name of a parameter γ, what is added to it before its bounds,
    :math:`γ_{ij} = \text{bound}(γ_j + \text{deviation}_{ij})`. A deviation is (p,), (n, p), or (..., n, p) with the draws of
    η; a parameter without one is that of its gene.

    A likelihood is a class that registers its parameters and writes down, each given η and the bounded parameters, its
    log-probability (`_log_prob`), moments and draws, and the fast path: the log-probability up to terms that do not
    depend on η with its slopes (`_block`), and these terms (`_constants`).

    Parameters
    ----------
    n_genes
        Number of genes p.
    """

    #: Whether observations are counts.
    is_count: ClassVar[bool] = True
    #: Where η is bounded softly.
    largest_log_rate: ClassVar[float] = LARGEST_LOG_RATE
    #: Whether these are Poisson counts, whose expectations under Gaussian log-rates, and PLN-PCA's solver, are in closed form.
    is_poisson: ClassVar[bool] = False
    #: Own parameters that networks are trained on without a prior around their mean, since every gene says much of them.
    not_shrunk: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        if n_genes < 1:
            msg = f"n_genes={n_genes!r}, but a likelihood needs one gene or more."
            raise ValueError(msg)
        self.n_genes = n_genes

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the unconstrained parameters of each gene, which deviations go by, in the order of their use."""
        return tuple(self._unconstrained())

    @property
    def cell_parameter_names(self) -> tuple[str, ...]:
        """Those that a decoder must vary by cell for the likelihood to be of use."""
        return ()

    def shrunk_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that a gene with few counts says little about, and whose prior is around their mean: by default all."""
        for likelihood in self.modules():
            if isinstance(likelihood, Likelihood):
                without = {*likelihood.not_shrunk, *likelihood.cell_parameter_names}
                own = likelihood.named_parameters(recurse=False)
                yield from (value for name, value in own if name not in without)

    def log_likelihood(self, eta: Tensor, batch: CountBatch, deviations: Mapping[str, Tensor] | None = None) -> Tensor:
        r"""Exact log-probability of each cell, :math:`\sum_j \log p(y_{ij} | η_{ij})`, in nats.

        The fast path: one pass over blocks of η, and log-gamma functions once per batch, on non-zeros. Differentiable
        (once) by η, the gene parameters and the deviations.

        Parameters
        ----------
        eta
            η, (..., n, p): leading dimensions are draws.
        batch
            Counts of these n cells, of the same precision.
        deviations
            What is added to unconstrained parameters, by name (`parameter_names`).

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
        draws = eta.reshape(eta.shape[:-2].numel(), *y.shape)
        _check_shapes(deviations or {}, eta.shape)
        parameters = [_by_draw(each, eta.shape) for each in self._bounded_parameters(eta.dtype, deviations)]
        differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in (draws, *parameters))
        total = SumOverGenes.apply(draws, batch, self._block, self.largest_log_rate, differentiable, *parameters)
        constants = self._constants(batch, *parameters)
        if constants is not None:
            nothing = constants.new_zeros(*constants.shape[:-1], batch.n_cells)
            total = total + nothing.index_add(-1, batch.cells, constants)
        return total.to(eta.dtype).reshape(eta.shape[:-1])

    def log_prob(self, eta: Tensor, y: Tensor, deviations: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-probability of each entry, in nats; η (..., p), y and deviations broadcast.

        Written for clarity, and computed in float64 whatever the precision of η: `log_likelihood` is the fast one.
        """
        parameters = self._bounded_parameters(torch.float64, deviations)
        return self._log_prob(self._bound(eta).double(), y.double(), *parameters).to(eta.dtype)

    def mean(self, eta: Tensor, deviations: Mapping[str, Tensor] | None = None) -> Tensor:
        """E[y] of each entry, (..., p)."""
        return self._mean(self._bound(eta), *self._bounded_parameters(eta.dtype, deviations))

    def variance(self, eta: Tensor, deviations: Mapping[str, Tensor] | None = None) -> Tensor:
        """Var[y] of each entry, (..., p)."""
        return self._variance(self._bound(eta), *self._bounded_parameters(eta.dtype, deviations))

    @torch.no_grad()
    def sample(self, eta: Tensor, generator: torch.Generator, deviations: Mapping[str, Tensor] | None = None) -> Tensor:
        """Draw y of each entry, in the precision of η; rates beyond e⁴⁰ draw at e⁴⁰."""
        parameters = self._bounded_parameters(torch.float64, deviations)
        return self._sample(self._bound(eta).double(), generator, *parameters).to(eta.dtype)

    def log_mean_offset(self) -> Tensor:
        """Logarithm of the mean beyond η, where that is the same for all η, (p,), differentiable; otherwise 0."""
        return torch.zeros(self.n_genes)

    def gene_parameters(self) -> dict[str, Tensor]:
        """Gene parameters on their natural scale, (p,) each, detached."""
        return {}

    def subset(self, genes: Any) -> Likelihood:
        """Copy for some of the genes, given as an index of a vector (positions, mask or slice)."""
        part = copy.deepcopy(self)
        for module in part.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(parameter.detach()[genes], requires_grad=False))
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
        return soft_clamp(eta, upper=self.largest_log_rate)

    def _unconstrained(self) -> dict[str, Tensor]:
        """Parameters of each gene by name, (p,) each."""
        return dict(self.named_parameters(recurse=False))

    def _constrain(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        """Parameters within their bounds, in the order in which the methods below take them."""
        return parameters

    def _bounded_parameters(
        self, dtype: torch.dtype, deviations: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Parameters within their bounds, with their deviations."""
        deviations, values = deviations or {}, self._unconstrained()
        unknown = [name for name in deviations if name not in values]
        if unknown:
            msg = f"deviations of {unknown} are given, but {type(self).__name__} has the parameters {list(values)}."
            raise ValueError(msg)
        return self._constrain(
            *(
                value.to(dtype) + deviations[name].to(dtype) if name in deviations else value.to(dtype)
                for name, value in values.items()
            )
        )

    @abstractmethod
    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> LogProbBlock:
        """Log-probabilities of consecutive cells, from their parameters: (p,), or (cells, p)."""

    def _constants(self, batch: CountBatch, *parameters: Tensor) -> Tensor | None:
        """Terms that do not depend on η, of each non-zero, in float64: (nnz,), or (K, nnz) where parameters are (K, n, p)."""
        return None

    @abstractmethod
    def _log_prob(self, eta: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
        """`log_prob`, all in float64."""

    @abstractmethod
    def _mean(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """`mean`."""

    @abstractmethod
    def _variance(self, eta: Tensor, *parameters: Tensor) -> Tensor:
        """`variance`."""

    @abstractmethod
    def _sample(self, eta: Tensor, generator: torch.Generator, *parameters: Tensor) -> Tensor:
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
    """Likelihood of counts that zero inflation can wrap."""

    @abstractmethod
    def _block(self, batch: CountBatch, rows: slice, *parameters: Tensor) -> CountBlock:
        """Log-probabilities of consecutive cells."""

    @abstractmethod
    def _probable_zeros(self, expected: Tensor) -> Tensor:
        """Number of zeros that each gene should have, (..., p): leading dimensions are parameters that may be set."""

    @abstractmethod
    def _choose_zeros(self, zeros: Tensor) -> Tensor:
        """Of those, summed over batches, the number for the parameters that have been set, (p,)."""


def draw_poisson(rate: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson counts with these rates, at most e⁴⁰."""
    return torch.poisson(rate.clamp(max=math.exp(LARGEST_DRAWN_LOG_RATE)), generator=generator)


def at_nonzeros(parameter: Tensor, batch: CountBatch) -> Tensor:
    """Parameter of each non-zero, in float64: (nnz,) of one that is (p,), (K, nnz) of one that is (K, n, p)."""
    if parameter.ndim == 1:
        return parameter.double().index_select(0, batch.genes)
    return parameter.flatten(1).index_select(1, batch.cells * batch.n_genes + batch.genes).double()


def _by_draw(parameter: Tensor, shape: torch.Size) -> Tensor:
    """Parameter that varies by cell as (1, n, p), and by draw as (K, n, p), for η of the given shape."""
    if parameter.ndim == 1:
        return parameter
    if parameter.shape[:-2].numel() == 1:
        return parameter.reshape(parameter.shape[-2:]).expand(shape[-2:])[None]
    return parameter.expand(shape).reshape(shape[:-2].numel(), *shape[-2:])


def _check_shapes(deviations: Mapping[str, Tensor], shape: torch.Size) -> None:
    """Raise an error for a deviation that does not broadcast to η of the given shape."""
    for name, deviation in deviations.items():
        sizes = zip(reversed(deviation.shape), reversed(shape), strict=False)
        if deviation.ndim > len(shape) or any(size not in (1, whole) for size, whole in sizes):
            msg = (
                f"{name} has deviations of shape {tuple(deviation.shape)}, but eta has shape {tuple(shape)}; "
                f"expected {tuple(shape[-1:])}, {tuple(shape[-2:])} or {tuple(shape)}."
            )
            raise ValueError(msg)
