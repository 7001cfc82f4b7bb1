"""What a flow knows of a cell whose Gaussian is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._batch import Batch

_SMALLEST_SPREAD = 1e-3


class GaussianFeatures(nn.Module):
    r"""Context of a flow: the cell's Gaussian m and L, its log size factor and covariates, standardised.

    Under Poisson counts, y enters the posterior of a linear model only through Cᵀy, of which m is a function given the
    known part of the log-rates: m and these then determine the shape of the exact posterior. Under other likelihoods
    they say most of it.

    Parameters
    ----------
    n_latent, n_covariates
        Dimensions q, and columns d of the design.

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

    def __init__(self, n_latent: int, n_covariates: int) -> None:
        super().__init__()
        self.size = n_latent + n_latent * (n_latent + 1) // 2 + n_covariates
        self.register_buffer("center", torch.zeros(self.size))
        self.register_buffer("spread", torch.ones(self.size))

    def forward(self, loc: torch.Tensor, scale: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Context (n, size) of the cells of a batch."""
        return (self._raw(loc, scale, batch) - self.center) / self.spread

    @torch.no_grad()
    def standardize(self, cells: Iterable[tuple[torch.Tensor, torch.Tensor, Batch]]) -> None:
        """Learn mean and standard deviation of each feature from batches of loc, scale and counts."""
        raw = torch.cat([self._raw(*cell) for cell in cells])
        self.center.copy_(raw.mean(0))
        self.spread.copy_(raw.std(0, correction=0).clamp_min(_SMALLEST_SPREAD))

    @staticmethod
    def _raw(loc: torch.Tensor, scale: torch.Tensor, batch: Batch) -> torch.Tensor:
        q = loc.shape[1]
        rows, columns = torch.tril_indices(q, q, offset=-1)
        log_diagonal = scale.diagonal(dim1=-2, dim2=-1).log()
        known = [batch.offsets[:, None], batch.design[:, 1:]]
        return torch.cat([loc, log_diagonal, scale[:, rows, columns], *known], dim=1)
