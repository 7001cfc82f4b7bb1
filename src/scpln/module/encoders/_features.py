"""What a flow knows of a cell whose Gaussian is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scpln.module._batch import Batch

_SMALLEST_SPREAD = 1e-3


class GaussianFeatures(nn.Module):
    r"""Context of a flow: the cell's Gaussian m and L, its log size factors and covariates, standardised.

    Under Poisson counts, y enters the posterior of a linear model only through Cᵀy, of which m is a function given the
    known part of the log-rates: m and these then determine the shape of the exact posterior. Under other likelihoods
    they say most of it. Offsets of entries, as many numbers as there are genes, are left out.

    Parameters
    ----------
    n_latent, n_covariates
        Dimensions q, and columns d of the design.
    n_groups
        Groups of genes with log size factors of their own, which enter with indicators of those that a cell lacks; 0
        where all genes have the same.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> features = GaussianFeatures(n_latent=2, n_covariates=1)
    >>> batch = Batch.from_arrays(np.zeros((3, 4)), np.zeros(3), np.ones((3, 1)))
    >>> features(torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2), batch).shape
    torch.Size([3, 6])
    """

    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self, n_latent: int, n_covariates: int, n_groups: int = 0) -> None:
        super().__init__()
        n_numbers = n_latent + n_latent * (n_latent + 1) // 2 + max(1, n_groups) + n_covariates - 1
        self.size = n_numbers + n_groups
        self.register_buffer("center", torch.zeros(n_numbers))
        self.register_buffer("spread", torch.ones(n_numbers))

    def forward(self, loc: torch.Tensor, scale: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Context (n, size) of the cells of a batch."""
        numbers = (self._numbers(loc, scale, batch) - self.center) / self.spread
        return torch.cat([batch.absence, numbers], 1)  # the design last, where `Growth` looks for it

    @torch.no_grad()
    def standardize(self, cells: Iterable[tuple[torch.Tensor, torch.Tensor, Batch]]) -> None:
        """Learn mean and standard deviation of each feature from batches of loc, scale and counts."""
        numbers = torch.cat([self._numbers(*cell) for cell in cells])
        self.center.copy_(numbers.mean(0))
        self.spread.copy_(numbers.std(0, correction=0).clamp_min(_SMALLEST_SPREAD))

    @staticmethod
    def _numbers(loc: torch.Tensor, scale: torch.Tensor, batch: Batch) -> torch.Tensor:
        q = loc.shape[1]
        rows, columns = torch.tril_indices(q, q, offset=-1)
        log_diagonal = scale.diagonal(dim1=-2, dim2=-1).log()
        known = [batch.log_sizes, batch.design[:, 1:]]
        return torch.cat([loc, log_diagonal, scale[:, rows, columns], *known], dim=1)
