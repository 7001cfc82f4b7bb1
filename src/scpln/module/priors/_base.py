"""What every prior of latent states can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Nodes of the quadrature over the marginals of a Gaussian, and cells that are in memory at a time.
_NODES, _CELLS = 32, 500
#: Draws that moments without a closed form are taken from.
_DRAWS = 100_000


class Prior(nn.Module, ABC):
    """Distribution p(z) of the latent states of cells, in q dimensions."""

    #: Components K of a mixture; any other prior is one component.
    n_components: int = 1

    @abstractmethod
    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z), (..., n), of latent states z (..., n, q), in nats."""

    @abstractmethod
    def log_marginals(self, z: torch.Tensor) -> torch.Tensor:
        """Log-density log p(z_j) of each dimension of latent states, (..., q), float64, on the CPU."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw `n` latent states (n, q)."""

    @torch.no_grad()
    def total_covariance(self) -> torch.Tensor:
        """Covariance Cov[z] of latent states (q, q), float64, on the CPU; by default that of 100,000 draws."""
        return torch.cov(self.sample(_DRAWS, torch.Generator().manual_seed(0)).detach().cpu().double().T, correction=0)

    def responsibilities(self, z: torch.Tensor) -> torch.Tensor:
        """Probabilities p(k | z) of the components, (..., K)."""
        return z.new_ones((*z.shape[:-1], 1))

    def penalty(self) -> torch.Tensor | float:
        """What training takes off the bound of all cells together, in nats: 0 without parameters."""
        return 0.0

    def divergence_from_scale(self, mean: torch.Tensor, scale: torch.Tensor) -> NDArray[np.float64] | None:
        r"""The same of :math:`N(m_i, S_i S_i^T)`, for means (n, q) and Cholesky factors S (n, q, q), where diagonals of V are not enough; or None."""
        return None

    def divergence_from_gaussian(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64], log_det_scale: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        r"""Divergences :math:`KL(N(m_i, V_i) \,\|\, p(z))` (n,), in nats; None where they have no closed form.

        Parameters
        ----------
        mean, variance
            Means m and diagonals of V, (n, q).
        log_det_scale
            ½ log det V, (n,).
        """
        return None

    def marginal_divergence_from_gaussian(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        r"""Divergences :math:`KL(N(m_{ij}, v_{ij}) \,\|\, p(z_j))` (n, q) in nats, by Gauss-Hermite quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        result = np.empty_like(mean)
        for start in range(0, len(mean), _CELLS):
            some = slice(start, start + _CELLS)
            states = mean[some] + nodes[:, None, None] * np.sqrt(variance[some])
            log_density = self.log_marginals(torch.from_numpy(states)).numpy()
            log_prior = np.einsum("s,snq->nq", weights / weights.sum(), log_density)
            result[some] = -0.5 * (np.log(2 * np.pi * variance[some]) + 1) - log_prior
        return result
