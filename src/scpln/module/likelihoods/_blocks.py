"""Sums of log-probabilities over genes, and their gradients, in blocks that stay in the processor's cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from scpln.module._counts import CountBatch

#: Cells × genes of one block per thread: with a handful of temporaries, about as much as second-level caches hold.
BLOCK_PAIRS = 128 * 1024


class Block(ABC):
    """A law for the counts of a few cells, entry by entry.

    All methods take log-rates η of one draw (cells, p), and return new tensors, which the caller may overwrite.
    """

    @abstractmethod
    def value(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probabilities, up to terms that do not depend on η, (cells, p).

        Fills `kept`, of the same shape, with what is dear to compute and serves the slopes as well.
        """

    @abstractmethod
    def slopes(self, eta: Tensor, kept: Tensor) -> list[Tensor]:
        """Derivatives of `value` by η, and by each gene parameter, (cells, p) each."""


class CountBlock(Block):
    """Block of a law that zero inflation can wrap: where y = 0, `value` is all of the log-probability."""

    @abstractmethod
    def zero(self, eta: Tensor, kept: Tensor) -> Tensor:
        """Log-probability of a zero, for entries where y = 0."""


class SumOverGenes(torch.autograd.Function):
    r"""Sum over genes of a block's `value`, for K draws of η (K, n, p) at once: (K, n).

    Plain autograd makes, and keeps, several arrays of the size of η. Here a block of cells and one draw go through all
    steps before the next, so that temporaries stay in the cache, and one array is kept for the gradient beside η, or
    none where `differentiable` says that there will be no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        eta: Tensor,
        batch: CountBatch,
        make_block: Callable[..., Block],
        differentiable: bool,
        *parameters: Tensor,
    ) -> Tensor:
        """Sum `value` over genes."""
        ctx.batch, ctx.make_block = batch, make_block
        total, kept = eta.new_empty(eta.shape[:2]), torch.empty_like(eta) if differentiable else None
        for rows in _blocks(eta):
            block = make_block(batch, rows, *parameters)
            for k in range(len(eta)):
                scratch = torch.empty_like(eta[k, rows]) if kept is None else kept[k, rows]
                torch.sum(block.value(eta[k, rows], scratch), -1, out=total[k, rows])
        ctx.save_for_backward(eta, kept, *parameters)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient by η and by the gene parameters."""
        eta, kept, *parameters = ctx.saved_tensors
        by_eta = torch.empty_like(eta)
        by_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        for rows in _blocks(eta):
            block = ctx.make_block(ctx.batch, rows, *parameters)
            for k in range(len(eta)):
                weight = gradient[k, rows]
                slope, *others = block.slopes(eta[k, rows], kept[k, rows])
                torch.mul(slope, weight[:, None], out=by_eta[k, rows])
                for total, other in zip(by_parameters, others, strict=True):
                    total.addmv_(other.T, weight)
        return by_eta, None, None, None, *by_parameters


def _blocks(eta: Tensor) -> Iterator[slice]:
    """Ranges of cells that are worked on at a time; off the CPU, all of them."""
    n, p = eta.shape[1:]
    size = max(1, BLOCK_PAIRS * torch.get_num_threads() // max(p, 1)) if eta.device.type == "cpu" else n
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
