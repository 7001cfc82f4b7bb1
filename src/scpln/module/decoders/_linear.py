"""The linear decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._base import Decoder

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from scpln.module._batch import Known

    Matrix = NDArray[Any] | torch.Tensor


class LinearDecoder(Decoder):
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

    def __init__(self, coefficients: Matrix, loadings: Matrix) -> None:
        super().__init__(*loadings.shape)
        self.coefficients = nn.Parameter(torch.as_tensor(coefficients).detach().clone())
        self.loadings = nn.Parameter(torch.as_tensor(loadings).detach().clone())

    def decode(self, z: torch.Tensor, known: Known) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Log-rates η (..., n, p), and no deviations."""
        fixed = torch.addmm(known.gene_offsets, known.design, self.coefficients.T)
        return fixed + z @ self.loadings.T, {}

    @property
    def gene_parameters(self) -> list[torch.Tensor]:
        """Coefficients B."""
        return [self.coefficients]

    def linear_map(self) -> tuple[torch.Tensor, torch.Tensor]:
        """B and C."""
        return self.coefficients, self.loadings
