"""Gaussian posteriors of the Poisson log-normal model in gene space, whose covariances follow from a few numbers of a cell."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scpln.core import ranges

from ._base import Posterior, as_double
from ._gaussian import GaussianPosterior

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.module.priors import Mixture, Prior

#: Numbers in the covariances that draws are made from at a time.
MOST_NUMBERS = 8 * 1024 * 1024


class GeneSpacePosterior(Posterior):
    r"""Posteriors :math:`N(m_i, V_i)` of states :math:`z_i \sim N(c, \Sigma)` in the space of p genes.

    At its optimum the bound has :math:`V_i = (\Sigma^{-1} + \text{diag}\, a_i)^{-1}`, or the inverse of its diagonal, with the weights a
    of a cell: its expected rates. So V is made when it is asked for, in about p³ operations a cell, and of some cells at a time.

    Parameters
    ----------
    mean
        m, (n, p).
    variance
        Diagonals of V, (n, p).
    weight
        a, (n, p).
    scale
        Cholesky factor L of Σ, (p, p).
    diagonal
        Whether V is diagonal.
    center
        c, (p,), or 0.

    Examples
    --------
    >>> posterior = GeneSpacePosterior(np.zeros((1, 2)), np.full((1, 2), 0.5), np.ones((1, 2)), np.eye(2))
    >>> posterior.covariance[0]
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    is_gaussian = True

    def __init__(
        self,
        mean: ArrayLike | torch.Tensor,
        variance: ArrayLike | torch.Tensor,
        weight: ArrayLike | torch.Tensor,
        scale: ArrayLike | torch.Tensor,
        *,
        diagonal: bool = False,
        center: ArrayLike | torch.Tensor | None = None,
    ) -> None:
        self._mean, self._variance, self._weight = as_double(mean), as_double(variance), as_double(weight)
        self._prior_scale, self.diagonal = as_double(scale), diagonal
        self._center = torch.zeros_like(self._prior_scale[0]) if center is None else as_double(center)

    @property
    def n_latent(self) -> int:
        """Genes p."""
        return int(self._mean.shape[1])

    @property
    def mean(self) -> NDArray[np.float64]:
        """Posterior means, (n, p)."""
        return self._mean.numpy()

    @property
    def variance(self) -> NDArray[np.float64]:
        """Diagonals of V, (n, p)."""
        return self._variance.numpy()

    @property
    def covariance(self) -> NDArray[np.float64]:
        """V, (n, p, p)."""
        return (self.scale @ self.scale.mT).numpy()

    @property
    def gaussian(self) -> GaussianPosterior:
        """The same with all covariances in memory."""
        return GaussianPosterior(self._mean, self.packed_covariance)

    @cached_property
    def scale(self) -> torch.Tensor:
        """Square roots F of the covariances, V = F Fᵀ, (n, p, p): L G⁻ᵀ, with G the Cholesky factor of I + Lᵀ diag(a) L."""
        if self.diagonal:
            return torch.diag_embed(self._variance.sqrt())
        factor = self._prior_scale.expand(len(self), -1, -1)
        return torch.linalg.solve_triangular(self._whitened.mT, factor, upper=True, left=False)

    @cached_property
    def log_det_scale(self) -> torch.Tensor:
        """½ log det V, (n,)."""
        if self.diagonal:
            return 0.5 * self._variance.log().sum(1)
        own = self._whitened.diagonal(dim1=-2, dim2=-1).log().sum(1)
        return self._prior_scale.diagonal().log().sum() - own

    def reparameterize(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent states (K, n, p) from standard normal noise, and their log-densities (K, n)."""
        size = max(1, MOST_NUMBERS // self.n_latent**2)
        if len(self) > size:
            parts = [self[a:b].reparameterize(noise[:, a:b]) for a, b in ranges(0, len(self), size)]
            return torch.cat([z for z, _ in parts], 1), torch.cat([density for _, density in parts], 1)
        z = self._mean + torch.einsum("ikl,sil->sik", self.scale, noise)
        return z, self._log_density(noise)

    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        r"""Log-density of latent states z (..., n, p), (..., n), in nats."""
        difference = as_double(z) - self._mean
        if self.diagonal:
            return self._log_density(difference / self._variance.sqrt()).numpy()
        columns = difference.reshape(-1, self.n_latent).T
        white = torch.linalg.solve_triangular(self._prior_scale, columns, upper=False).T.reshape(difference.shape)
        return self._log_density(torch.einsum("ilk,...il->...ik", self._whitened, white)).numpy()

    def divergence(self, prior: Prior) -> NDArray[np.float64] | None:
        r"""Divergence of each cell from N(c, Σ), with :math:`\text{tr}(\Sigma^{-1} V) = p - \sum_j a_j V_{jj}`, (n,) in nats."""
        white = torch.linalg.solve_triangular(self._prior_scale, (self._mean - self._center).T, upper=False)
        trace = self.n_latent - (self._weight * self._variance).sum(1)
        log_ratio = 2 * (self._prior_scale.diagonal().log().sum() - self.log_det_scale)
        return (0.5 * (white.square().sum(0) + trace - self.n_latent + log_ratio)).numpy()

    def divergence_of_components(self, prior: Mixture, numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        """Divergences from the component that c and Σ are of."""
        divergence = self.divergence(prior)
        assert divergence is not None
        return divergence

    def marginal_divergences(self, prior: Prior, seed: int = 0) -> NDArray[np.float64]:
        r"""Divergences of each gene, (n, p), in closed form."""
        return prior.marginal_divergence_from_gaussian(self.mean, self.variance)

    @cached_property
    def _whitened(self) -> torch.Tensor:
        """G, (n, p, p): the Cholesky factors of the precisions in the coordinates in which the prior is N(0, I)."""
        scale = self._prior_scale
        precision = torch.einsum("ja,ij,jb->iab", scale, self._weight, scale) if len(self) else scale[None][:0]
        precision = precision + torch.eye(self.n_latent, dtype=torch.float64)
        return torch.linalg.cholesky(precision)

    def _log_density(self, noise: torch.Tensor) -> torch.Tensor:
        constant = 0.5 * self.n_latent * math.log(2 * math.pi)
        return -0.5 * noise.square().sum(-1) - self.log_det_scale - constant

    def __getitem__(self, cells: Any) -> GeneSpacePosterior:
        """Posteriors of some of the cells."""
        cells = np.atleast_1d(np.arange(len(self))[cells])
        parts = self._mean[cells], self._variance[cells], self._weight[cells]
        return GeneSpacePosterior(*parts, self._prior_scale, diagonal=self.diagonal, center=self._center)

    def __len__(self) -> int:
        return len(self._mean)

    def __repr__(self) -> str:
        return f"GeneSpacePosterior({len(self):,} cells, {self.n_latent} genes)"
