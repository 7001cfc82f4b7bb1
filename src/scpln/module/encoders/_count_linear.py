"""A linear layer whose input are counts: most of them are zeros, which cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from scpln.module._standardize import Unit

if TYPE_CHECKING:
    from scpln.module._count_batch import CountBatch

#: Share of non-zeros above which a dense product is quicker (measured at 128 columns).
_DENSE_ABOVE = 0.4


class CountLinear(nn.Module):
    r"""Linear map of log(1 + y), without a bias: :math:`\sum_j W_j \log(1 + y_{ij})`.

    Real values are divided by their unit first, and those y < 0 enter as −log(1 − y). The sum runs over the non-zeros of each cell, in both directions.

    Parameters
    ----------
    n_genes, n_out
        Sizes of W.
    real_values
        Whether there are real values with a unit in place of counts.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import CountBatch
    >>> layer = CountLinear(5, 3)
    >>> layer(CountBatch.from_counts(np.eye(2, 5))).shape
    torch.Size([2, 3])
    """

    def __init__(self, n_genes: int, n_out: int, *, real_values: bool = False) -> None:
        super().__init__()
        self.unit = Unit() if real_values else None
        self.weight = nn.Parameter(torch.empty(n_genes, n_out))
        nn.init.normal_(self.weight, std=n_genes**-0.5)

    def forward(self, counts: CountBatch) -> torch.Tensor:
        """Outputs (n, n_out) of a batch."""
        y = counts.values if self.unit is None else counts.values / self.unit.value
        logs = y.abs().log1p().copysign(y)
        if len(y) > _DENSE_ABOVE * counts.dense.numel():
            return counts.dense.index_put((counts.cells, counts.genes), logs) @ self.weight
        return _SparseProduct.apply(self.weight, counts, logs)


class _SparseProduct(torch.autograd.Function):
    """X W for a batch's non-zeros X (n, p), differentiable by W (p, h)."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, counts: CountBatch, values: torch.Tensor) -> torch.Tensor:
        """Sum the weights of each cell's genes."""
        ctx.counts, ctx.values, ctx.n_genes = counts, values, len(weight)
        return _sum_by(counts.cells, counts.n_cells, counts.genes, values, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Sum the gradients of each gene's cells."""
        counts: CountBatch = ctx.counts
        order = torch.argsort(counts.genes.int(), stable=True)
        genes, cells = counts.genes[order], counts.cells[order]
        return _sum_by(genes, ctx.n_genes, cells, ctx.values[order], gradient.contiguous()), None, None


def _sum_by(
    groups: torch.Tensor, n_groups: int, rows: torch.Tensor, values: torch.Tensor, table: torch.Tensor
) -> torch.Tensor:
    """Sum of values × rows of a table over each group, (n_groups, h); entries are sorted by group."""
    sizes = torch.bincount(groups, minlength=n_groups)
    starts = sizes.cumsum(0) - sizes
    return embedding_bag(rows, table, starts, mode="sum", per_sample_weights=values)
