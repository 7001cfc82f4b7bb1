"""A normal prior with any covariance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ._base import Prior

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Normal(Prior):
    r"""Latent states from N(0, Σ), which starts as the identity.

    Parameters
    ----------
    n_latent
        Dimensions q.

    Attributes
    ----------
    scale
        Cholesky factor of Σ, (q, q).

    Examples
    --------
    >>> prior = Normal(2)
    >>> prior.scale.copy_(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    tensor([[1.0000, 0.0000],
            [0.6000, 0.8000]])
    >>> prior.log_prob(torch.tensor([1.0, 0.6]))
    tensor(-2.1147)
    """

    scale: torch.Tensor

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.register_buffer("scale", torch.eye(n_latent))

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log N(z; 0, Σ)."""
        noise = self.whiten(z)
        log_det = self.scale.diagonal().log().sum()
        return -0.5 * noise.square().sum(-1) - log_det - 0.5 * self.n_latent * math.log(2 * math.pi)

    def whiten(self, z: torch.Tensor) -> torch.Tensor:
        """The standard normal noise L⁻¹ z (..., q) that gives latent states z."""
        columns = z.reshape(-1, self.n_latent).T
        return torch.linalg.solve_triangular(self.scale, columns, upper=False).T.reshape(z.shape)

    def log_marginals(self, z: torch.Tensor) -> torch.Tensor:
        """Log N(z_j; 0, Σ_jj) of each dimension."""
        variance = self._variances()
        return -0.5 * (z.detach().cpu().double() ** 2 / variance + (2 * math.pi * variance).log())

    @torch.no_grad()
    def total_covariance(self) -> torch.Tensor:
        """Σ."""
        scale = self.scale.detach().cpu().double()
        return scale @ scale.T

    @torch.no_grad()
    def divergence_from_scale(self, mean: torch.Tensor, scale: torch.Tensor) -> NDArray[np.float64]:
        r"""Divergences :math:`\frac12 (\|L^{-1} m\|^2 + \|L^{-1} S\|^2 - q) + \log\det L - \log\det S`, (n,), with the Cholesky factor L of Σ."""
        own = self.scale.detach().cpu().double()
        inner = torch.linalg.solve_triangular(own, scale, upper=False).square().sum((1, 2))
        outer = torch.linalg.solve_triangular(own, mean.T, upper=False).square().sum(0)
        log_ratio = own.diagonal().log().sum() - scale.diagonal(dim1=1, dim2=2).log().sum(1)
        result: NDArray[np.float64] = (0.5 * (outer + inner - self.n_latent) + log_ratio).numpy()
        return result

    def marginal_divergence_from_gaussian(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        r"""Divergences :math:`\frac12 (m^2 / \Sigma_{jj} + v / \Sigma_{jj} - \log (v / \Sigma_{jj}) - 1)`, (n, q)."""
        m, v, prior = torch.as_tensor(mean), torch.as_tensor(variance), self._variances()
        result: NDArray[np.float64] = (0.5 * ((m**2 + v) / prior - (v / prior).log() - 1)).numpy()
        return result

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw from N(0, Σ)."""
        noise = torch.randn((n, self.n_latent), generator=generator, dtype=self.scale.dtype)
        return noise.to(self.scale.device) @ self.scale.T

    def _variances(self) -> torch.Tensor:
        return self.scale.detach().cpu().double().square().sum(1)
