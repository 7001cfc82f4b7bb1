"""Encoders: from counts and covariates to Gaussians, and to what a flow is conditioned on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ._layers import GaussianHead, Trunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.module._batch import Batch


class Encoder(nn.Module):
    r"""Gaussians of cells from their counts.

    Parameters
    ----------
    n_genes, n_covariates, n_latent
        Genes p, columns d of the design (the first is the intercept), latent dimensions q.
    hidden
        Widths of the hidden layers.
    diagonal
        Whether covariances are diagonal.
    covariates, dropout, n_groups, real_values, by_entry
        As in `Trunk`.

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
        covariates: bool = True,
        dropout: float = 0.0,
        n_groups: int = 0,
        real_values: bool = False,
        by_entry: bool = False,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "covariates": covariates,
            "dropout": dropout,
            "n_groups": n_groups,
            "real_values": real_values,
            "by_entry": by_entry,
        }
        self.trunk = Trunk(n_genes, n_covariates, hidden, **options)
        self.gaussian = GaussianHead(self.trunk.n_features, n_latent, diagonal=diagonal)

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return self.trunk.n_features

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Means m (n, q), lower-triangular L (n, q, q), and features (n, last width) for a flow's context."""
        features = self.trunk(batch)
        return *self.gaussian(features), features
