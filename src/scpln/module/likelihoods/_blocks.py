"""Sums of log-probabilities over genes, and their gradients, in blocks that stay in the processor's cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from ._bounds import soft_clamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from scpln.module._count_batch import CountBatch

#: Cells × genes of one block per thread: with a handful of temporaries, about as much as second-level caches hold.
BLOCK_PAIRS = 128 * 1024


class LogProbBlock(ABC):
    """Log-probabilities of the counts of a few cells, entry by entry.

    It is made for the parameters of these cells, (p,) where all cells share them, otherwise (cells, p). All methods take
    log-rates η of one draw (cells, p), and return new tensors, which the caller may overwrite.
    """

    @abstractmethod
    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probabilities, up to terms that do not depend on η, (cells, p).

        Fills `kept`, of the same shape, with what is dear to compute and serves the slopes as well.
        """

    @abstractmethod
    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives of `value` by η, and by each parameter, (cells, p) each."""


class CountBlock(LogProbBlock):
    """Log-probabilities that zero inflation can wrap.

    It keeps the log-probability of a zero, of all entries. Where y = 0, `value` is that.
    """


class SumOverGenes(torch.autograd.Function):
    r"""Sum over genes of a block's `value`, for K draws of η (K, n, p) at once: (K, n).

    Plain autograd makes, and keeps, several arrays of the size of η. Here a block of cells and one draw go through all
    steps before the next, so that temporaries stay in the cache, and one array is kept for the gradient beside η, or
    none where `differentiable` says that there will be no gradient. Log-rates are bounded softly by `largest`. A
    parameter is (p,), (1, n, p) or (K, n, p).
    """

    @staticmethod
    def forward(
        ctx: Any,
        eta: Tensor,
        batch: CountBatch,
        make_block: Callable[..., LogProbBlock],
        largest: float,
        differentiable: bool,
        *parameters: Tensor,
    ) -> Tensor:
        """Sum `value` over genes."""
        ctx.batch, ctx.make_block, ctx.largest = batch, make_block, largest
        ctx.is_bounded = False
        total, kept = eta.new_empty(eta.shape[:2]), eta.new_empty(eta.shape) if differentiable else None
        for k, rows, block in _blocks(eta, batch, make_block, parameters):
            given = eta[k, rows].contiguous()
            log_rates = soft_clamp(given, upper=largest)
            ctx.is_bounded |= log_rates is not given
            scratch = torch.empty_like(log_rates) if kept is None else kept[k, rows]
            torch.sum(block.value(log_rates, scratch), -1, out=total[k, rows])
        ctx.save_for_backward(eta, kept, *parameters)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient by η and by the parameters."""
        eta, kept, *parameters = ctx.saved_tensors
        by_eta = eta.new_empty(eta.shape)
        by_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        for k, rows, block in _blocks(eta, ctx.batch, ctx.make_block, parameters):
            given, weight = eta[k, rows].contiguous(), gradient[k, rows]
            log_rates = soft_clamp(given, upper=ctx.largest) if ctx.is_bounded else given
            slope, *others = block.slopes(log_rates, kept[k, rows])
            torch.mul(slope, weight[:, None], out=by_eta[k, rows])
            if log_rates is not given:
                by_eta[k, rows] /= 1 + (given - ctx.largest).clamp_(min=0)
            for total, other in zip(by_parameters, others, strict=True):
                if total.ndim == 1:
                    total.addmv_(other.T, weight)
                else:
                    total[k % len(total), rows].addcmul_(other, weight[:, None])
        return by_eta, None, None, None, None, *by_parameters


def _blocks(
    eta: Tensor, batch: CountBatch, make_block: Callable[..., LogProbBlock], parameters: Sequence[Tensor]
) -> Iterator[tuple[int, slice, LogProbBlock]]:
    """Draw, cells and block, for all blocks; off the CPU, a block is all cells."""
    n_draws, n, p = eta.shape
    size = max(1, BLOCK_PAIRS * torch.get_num_threads() // max(p, 1)) if eta.device.type == "cpu" else n
    differ = any(parameter.ndim == 3 and len(parameter) > 1 for parameter in parameters)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        for k in range(n_draws):
            if k == 0 or differ:
                of_block = (each if each.ndim == 1 else each[k % len(each), rows] for each in parameters)
                block = make_block(batch, rows, *of_block)
            yield k, rows, block
