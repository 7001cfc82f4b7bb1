"""Mixtures of Gaussians as priors, whatever their parameters are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from ._base import Prior

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Mixture(Prior):
    r"""Latent states from a mixture of K Gaussians, :math:`p(z) = \sum_k \pi_k N(z; m_k, L_k L_k^T)`.

    Attributes
    ----------
    n_components, n_latent
        Components K and dimensions q.
    log_weights
        Log π, (K,).
    loc, scale
        Means m (K, q), and lower-triangular factors L of the covariances, (K, q, q).
    """

    n_latent: int
    log_weights: torch.Tensor
    loc: torch.Tensor
    scale: torch.Tensor

    @property
    def covariance(self) -> torch.Tensor:
        """Covariances (K, q, q)."""
        return self.scale @ self.scale.mT

    @torch.no_grad()
    def total_covariance(self) -> torch.Tensor:
        r"""Covariances within components and between their means, :math:`\sum_k \pi_k (V_k + m_k m_k^T) - m m^T`."""
        weights, loc, covariance = (
            value.detach().cpu().double() for value in (self.log_weights.exp(), self.loc, self.covariance)
        )
        centered = loc - weights @ loc
        return torch.einsum("k,kab->ab", weights, covariance) + torch.einsum("k,ka,kb->ab", weights, centered, centered)

    def log_components(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z | k), (..., K), of latent states z (..., q)."""
        return self._log_density(z[..., None, :] - self.loc)

    def _log_density(self, difference: torch.Tensor) -> torch.Tensor:
        """Log-densities (..., K) of differences from the means (..., K, q)."""
        scale = self.scale
        eye = torch.eye(self.n_latent, dtype=difference.dtype, device=difference.device).expand(
            self.n_components, -1, -1
        )
        inverse = torch.linalg.solve_triangular(scale, eye, upper=False)
        whitened = torch.einsum("kab,...kb->...ka", inverse, difference)
        log_det = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * whitened.square().sum(-1) - log_det - 0.5 * self.n_latent * math.log(2 * math.pi)

    def log_joint(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z, k) = log π_k + log p(z | k), (..., K), of latent states z (..., q)."""
        return self.log_components(z) + self.log_weights

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z), the sum over components being exact."""
        return torch.logsumexp(self.log_joint(z), -1)

    @torch.no_grad()
    def log_marginals(self, z: torch.Tensor) -> torch.Tensor:
        r"""Log :math:`\sum_k \pi_k N(z_j; m_{kj}, V_{kjj})` of each dimension."""
        z, loc, covariance, log_weights = (
            value.detach().cpu().double() for value in (z, self.loc, self.covariance, self.log_weights)
        )
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        squares = (z[..., None, :] - loc).square() / variance
        log_density = -0.5 * (squares + (2 * math.pi * variance).log())
        return torch.logsumexp(log_density + log_weights[:, None], -2)

    @torch.no_grad()
    def divergence_of_components(
        self, mean: torch.Tensor, covariance: torch.Tensor, numbers: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        r"""Divergences :math:`KL(N(m_i, V_i) \,\|\, N(m_k, L_k L_k^T))` (n,) in nats, of each cell with one component k.

        Parameters
        ----------
        mean, covariance
            Means (n, q) and covariances (n, q, q), float64.
        numbers
            The components k, (n,).
        """
        scale = self.scale.detach().cpu().double()
        inverse = torch.linalg.inv(scale)[numbers]
        away = torch.einsum("nab,nb->na", inverse, mean - self.loc.detach().cpu().double()[numbers])
        within = inverse @ covariance @ inverse.mT
        trace = within.diagonal(dim1=-2, dim2=-1).sum(-1)
        values = 0.5 * (away.square().sum(-1) + trace - torch.logdet(within) - mean.shape[1])
        return values.numpy()

    def component_divergence(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Divergence :math:`KL(q(k \mid y_i) \,\|\, \pi)` (n,) of probabilities of the components (n, K), in nats."""
        log_weights = self.log_weights.detach().cpu().double().numpy()
        log_probabilities = np.log(np.maximum(probabilities, np.finfo(float).tiny))
        return (probabilities * (log_probabilities - log_weights)).sum(1)

    def responsibilities(self, z: torch.Tensor) -> torch.Tensor:
        """Probabilities p(k | z) of the components, (..., K)."""
        return torch.softmax(self.log_joint(z), -1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw from the mixture."""
        components = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        return self.sample_components(components, generator)

    def sample_components(self, components: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw a latent state (n, q) from each of the given components (n,)."""
        noise = torch.randn((len(components), self.n_latent), generator=generator, dtype=self.loc.dtype)
        return self.loc[components] + torch.einsum("nab,nb->na", self.scale[components], noise)
