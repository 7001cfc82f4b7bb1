"""The encoder with a Gaussian for each component of a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ._layers import GaussianHead, Trunk, _activation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.module._batch import Batch


class ComponentEncoder(nn.Module):
    r"""Probabilities q(k | y) of the components of a mixture, and a Gaussian q(z | y, k) for each.

    The component enters the last hidden layer: :math:`h_k = \text{SiLU}(\text{LayerNorm}(W h + e_k))`, with an
    embedding e of each. Each row is normalised by itself, so that nothing subtracts the component again, as batch
    normalisation over the rows of one component does.

    Parameters
    ----------
    n_components
        Components K.
    n_genes, n_covariates, n_latent, hidden, diagonal, covariates, dropout, real_values, by_entry
        As in `Encoder`.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> encoder = ComponentEncoder(5, n_genes=4, n_covariates=1, n_latent=2, hidden=(16,))
    >>> batch = Batch.from_arrays(np.ones((3, 4)), np.zeros(3), np.ones((3, 1)))
    >>> logits, loc, scale, features = encoder(batch)
    >>> logits.shape, loc.shape, scale.shape, features.shape  # row k · n + i is component k of cell i
    (torch.Size([3, 5]), torch.Size([15, 2]), torch.Size([15, 2, 2]), torch.Size([15, 16]))
    """

    def __init__(
        self,
        n_components: int,
        n_genes: int,
        n_covariates: int,
        n_latent: int,
        *,
        hidden: Sequence[int] = (128, 128),
        diagonal: bool = False,
        covariates: bool = True,
        dropout: float = 0.0,
        real_values: bool = False,
        by_entry: bool = False,
    ) -> None:
        super().__init__()
        self.n_components = n_components
        options: dict[str, Any] = {
            "covariates": covariates,
            "dropout": dropout,
            "real_values": real_values,
            "by_entry": by_entry,
        }
        self.trunk = Trunk(n_genes, n_covariates, hidden, **options)
        width = self.trunk.n_features
        self.components = nn.Linear(width, n_components)
        self.mix = nn.Linear(width, width)
        self.embedding = nn.Parameter(torch.randn(n_components, width))
        self.activation = nn.Sequential(*_activation(width, dropout))
        self.gaussian = GaussianHead(width, n_latent, diagonal=diagonal)

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return self.trunk.n_features

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of q(k | y) (n, K); means (K·n, q), scales (K·n, q, q) and features (K·n, width), by component."""
        shared = self.trunk(batch)
        rows = self.mix(shared) + self.embedding[:, None]
        features = self.activation(rows.reshape(-1, rows.shape[-1]))
        return self.components(shared), *self.gaussian(features), features
