"""The encoder: from counts and covariates to a Gaussian and to what a flow is conditioned on."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._batch import Batch

#: Standard deviations stay within e^±12 of the typical one, softly.
_LOG_SCALE_RANGE = 12.0


class Encoder(nn.Module):
    r"""Gaussians of cells from their counts: log(1 + y), log size factor and covariates through an MLP with LayerNorm.

    Real values y < 0 enter as −log(1 − y).

    Parameters
    ----------
    n_genes, n_covariates, n_latent
        Genes p, columns d of the design (the first is the intercept), latent dimensions q.
    hidden
        Widths of the hidden layers.
    diagonal
        Whether covariances are diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> encoder = Encoder(n_genes=4, n_covariates=1, n_latent=2, hidden=(16,))
    >>> batch = Batch.from_arrays(np.ones((3, 4)), np.zeros(3), np.ones((3, 1)))
    >>> loc, scale, features = encoder(batch)
    >>> loc.shape, scale.shape, features.shape
    (torch.Size([3, 2]), torch.Size([3, 2, 2]), torch.Size([3, 16]))
    """

    def __init__(
        self,
        n_genes: int,
        n_covariates: int,
        n_latent: int,
        *,
        hidden: Sequence[int] = (128, 128),
        diagonal: bool = False,
    ) -> None:
        super().__init__()
        self.n_latent, self.diagonal, self.n_features = n_latent, diagonal, hidden[-1]
        widths = [n_genes + n_covariates, *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.loc = nn.Linear(hidden[-1], n_latent)
        self.log_scale = nn.Linear(hidden[-1], n_latent)
        n_below = 0 if diagonal else n_latent * (n_latent - 1) // 2
        self.below = nn.Linear(hidden[-1], n_below) if n_below else None
        for head in (self.log_scale, self.below):
            if head is not None:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Means m (n, q), lower-triangular L (n, q, q), and features (n, last width) for a flow's context."""
        y = batch.counts.dense
        known = [batch.offsets[:, None], batch.design[:, 1:]]
        features = self.layers(torch.cat([y.abs().log1p().copysign(y), *known], dim=1))
        log_scale = _LOG_SCALE_RANGE * torch.tanh(self.log_scale(features) / _LOG_SCALE_RANGE)
        scale = torch.diag_embed(log_scale.exp())
        if self.below is not None:
            rows, columns = torch.tril_indices(self.n_latent, self.n_latent, offset=-1)
            scale = scale.index_put((torch.arange(len(scale))[:, None], rows, columns), self.below(features))
        return self.loc(features), scale, features
