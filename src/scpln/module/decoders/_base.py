"""What every decoder can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from scpln.module._batch import Known


class Decoder(nn.Module, ABC):
    """From latent states to log-rates, and to what else of the likelihood varies by cell.

    Parameters
    ----------
    n_genes, n_latent
        Genes p and latent dimensions q.
    """

    def __init__(self, n_genes: int, n_latent: int) -> None:
        super().__init__()
        self.n_genes, self.n_latent = n_genes, n_latent

    @abstractmethod
    def decode(self, z: torch.Tensor, known: Known) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Log-rates η (..., n, p) at latent states z (..., n, q), and deviations of the likelihood's parameters.

        Deviations are from the parameters of the genes, by name, (..., n, p) each; none where these are the same for
        all cells.
        """

    def forward(self, z: torch.Tensor, known: Known) -> torch.Tensor:
        """Log-rates η (..., n, p) at latent states z (..., n, q)."""
        return self.decode(z, known)[0]

    @property
    def gene_parameters(self) -> list[torch.Tensor]:
        """Parameters of single genes, whose scale is far from that of a network's weights; by default none."""
        return []

    @property
    def deviations_by_batch(self) -> list[torch.Tensor]:
        """Tables (batches, p) of what batches add to the likelihood's parameters; by default none."""
        return []

    def start_at(self, log_means: NDArray[np.float64], log_total: float, design: torch.Tensor) -> None:
        """Start where every gene has its mean (p,), for a cell of offset 0 with a log total count; by default anywhere."""

    def linear_map(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Coefficients B (p, d) of the design and loadings C (p, q) of a linear decoder; None of any other."""
        return None
