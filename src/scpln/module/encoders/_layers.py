"""Layers that encoders have in common."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from scpln.module._standardize import Standardize

from ._count_linear import CountLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.module._batch import Batch


#: Standard deviations stay within e^±12 of the typical one, softly.
_LOG_SCALE_RANGE = 12.0


class Trunk(nn.Module):
    """Features of cells: log(1 + y), log size factors and covariates through an MLP with LayerNorm.

    Parameters
    ----------
    n_genes, n_covariates
        Genes p, and columns d of the design (the first is the intercept).
    hidden
        Widths of the hidden layers.
    covariates
        Whether the design is an input, besides the log size factors.
    dropout
        Probability by which hidden units are left out in training.
    n_groups
        Groups of genes with log size factors of their own, which enter with indicators of those that a cell lacks; 0
        where all genes have the same.
    real_values
        Whether there are real values with a unit in place of counts.
    by_entry
        Whether entries have offsets of their own, or may be unobserved, both of which enter.
    """

    def __init__(
        self,
        n_genes: int,
        n_covariates: int,
        hidden: Sequence[int],
        *,
        covariates: bool = True,
        dropout: float = 0.0,
        n_groups: int = 0,
        real_values: bool = False,
        by_entry: bool = False,
    ) -> None:
        super().__init__()
        self.covariates, self.n_features = covariates, hidden[-1]
        self.counts = CountLinear(n_genes, hidden[0], real_values=real_values)
        self.standardize = Standardize(n_covariates)
        n_known = max(1, 2 * n_groups) + (n_covariates - 1 if covariates else 0)
        self.known = nn.Linear(n_known, hidden[0])
        self.entries = nn.Linear(2 * n_genes, hidden[0], bias=False) if by_entry else None
        layers: list[nn.Module] = _activation(hidden[0], dropout)
        for n_in, n_out in pairwise(hidden):
            layers += [nn.Linear(n_in, n_out), *_activation(n_out, dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Features (n, last width)."""
        known = [batch.log_sizes, batch.absence]
        if self.covariates:
            known.append(self.standardize(batch.design)[:, 1:])
        inputs = self.counts(batch.counts) + self.known(torch.cat(known, 1))
        if self.entries is not None:
            inputs = inputs + self.entries(batch.entry_features)
        return self.layers(inputs)


class GaussianHead(nn.Module):
    """Means m (n, q) and lower-triangular L (n, q, q) from features; L starts at the identity.

    Parameters
    ----------
    n_features, n_latent
        Sizes.
    diagonal
        Whether L is diagonal.
    """

    def __init__(self, n_features: int, n_latent: int, *, diagonal: bool = False) -> None:
        super().__init__()
        self.n_latent, self.diagonal = n_latent, diagonal
        self.loc = nn.Linear(n_features, n_latent)
        self.log_scale = nn.Linear(n_features, n_latent)
        n_below = 0 if diagonal else n_latent * (n_latent - 1) // 2
        self.below = nn.Linear(n_features, n_below) if n_below else None
        for head in (self.log_scale, self.below):
            if head is not None:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means (n, q) and scales (n, q, q)."""
        log_scale = _LOG_SCALE_RANGE * torch.tanh(self.log_scale(features) / _LOG_SCALE_RANGE)
        scale = torch.diag_embed(log_scale.exp())
        if self.below is not None:
            rows, columns = torch.tril_indices(self.n_latent, self.n_latent, offset=-1, device=scale.device)
            cells = torch.arange(len(scale), device=scale.device)[:, None]
            scale = scale.index_put((cells, rows, columns), self.below(features))
        return self.loc(features), scale


def _activation(width: int, dropout: float) -> list[nn.Module]:
    return [nn.LayerNorm(width), nn.SiLU(), *([nn.Dropout(dropout)] if dropout else [])]
