"""The standard normal prior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from ._base import Prior

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StandardNormal(Prior):
    """Latent states from N(0, I).

    Parameters
    ----------
    n_latent
        Dimensions q.

    Examples
    --------
    >>> StandardNormal(2).log_prob(torch.zeros(3, 2))
    tensor([-1.8379, -1.8379, -1.8379])
    """

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log N(z; 0, I)."""
        return -0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)

    def log_marginals(self, z: torch.Tensor) -> torch.Tensor:
        """Log N(z_j; 0, 1) of each dimension."""
        return -0.5 * (z.detach().cpu().double() ** 2 + math.log(2 * math.pi))

    def total_covariance(self) -> torch.Tensor:
        """The identity."""
        return torch.eye(self.n_latent, dtype=torch.float64)

    def divergence_from_gaussian(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64], log_det_scale: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        r"""Divergences :math:`KL(N(m, V) \,\|\, N(0, I)) = \frac12 (\|m\|^2 + \text{tr} V - \log\det V - q)`, (n,)."""
        return 0.5 * ((mean**2 + variance).sum(1) - mean.shape[1]) - log_det_scale

    def marginal_divergence_from_gaussian(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        r"""Divergences :math:`\frac12 (m^2 + v - \log v - 1)`, (n, q)."""
        return 0.5 * (mean**2 + variance - np.log(variance) - 1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw from N(0, I)."""
        return torch.randn((n, self.n_latent), generator=generator)
