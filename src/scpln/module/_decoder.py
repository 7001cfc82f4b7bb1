"""Decoders: from latent states to log-rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._batch import Batch


class LinearDecoder(nn.Module):
    r"""Log-rates that are linear in the latent state: :math:`\eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j`.

    Parameters
    ----------
    coefficients
        B, (p, d).
    loadings
        C, (p, q).

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Batch
    >>> decoder = LinearDecoder(np.zeros((4, 1)), np.ones((4, 2)))
    >>> batch = Batch.from_arrays(np.zeros((3, 4)), np.zeros(3), np.ones((3, 1)), dtype=torch.float64)
    >>> decoder(torch.ones(7, 3, 2, dtype=torch.float64), batch).shape
    torch.Size([7, 3, 4])
    """

    def __init__(self, coefficients: ArrayLike | torch.Tensor, loadings: ArrayLike | torch.Tensor) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.as_tensor(coefficients).detach().clone())
        self.loadings = nn.Parameter(torch.as_tensor(loadings).detach().clone())

    def forward(self, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Log-rates η (..., n, p) at latent states z (..., n, q)."""
        known = torch.addmm(batch.offsets[:, None], batch.design, self.coefficients.T)
        return known + z @ self.loadings.T
