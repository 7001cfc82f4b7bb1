"""Gaussian posteriors of many cells."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._base import Posterior, as_double

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.module.priors import Prior

_JITTER = 1e-7


class GaussianPosterior(Posterior):
    r"""Full-rank Gaussian posteriors :math:`q(z_i) = N(m_i, V_i)` of n cells, in q latent dimensions.

    Parameters
    ----------
    mean
        Means m, (n, q).
    covariance
        Lower triangles of the covariances V row by row, (n, q(q+1)/2), in the order of ``np.tril_indices(q)``.

    Examples
    --------
    >>> import numpy as np
    >>> posterior = GaussianPosterior(np.zeros((3, 2)), np.tile([1.0, 0.5, 1.0], (3, 1)))
    >>> posterior
    GaussianPosterior(3 cells, 2 latent dimensions)
    >>> posterior.covariance[0]
    array([[1. , 0.5],
           [0.5, 1. ]])
    >>> posterior.sample(1000, seed=0).shape
    (1000, 3, 2)
    >>> posterior.log_prob(np.zeros((3, 2))).round(3)
    array([-1.694, -1.694, -1.694])
    """

    is_gaussian = True

    def __init__(self, mean: ArrayLike | torch.Tensor, covariance: ArrayLike | torch.Tensor) -> None:
        self._mean, self._packed = as_double(mean), as_double(covariance)
        n, q = self._mean.shape
        if self._packed.shape != (n, q * (q + 1) // 2):
            msg = (
                f"mean has shape {(n, q)}, so covariance must be the lower triangles, {(n, q * (q + 1) // 2)}; "
                f"it has shape {tuple(self._packed.shape)}."
            )
            raise ValueError(msg)

    @property
    def n_latent(self) -> int:
        """Latent dimensions q."""
        return int(self._mean.shape[1])

    @property
    def mean(self) -> NDArray[np.float64]:
        """Posterior means m, (n, q)."""
        return self._mean.numpy()

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Posterior covariances V, (n, q, q)."""
        return self._covariance().numpy()

    @property
    def packed_covariance(self) -> NDArray[np.float64]:
        """Lower triangles of V, row by row, (n, q(q+1)/2)."""
        return self._packed.numpy()

    @property
    def variance(self) -> NDArray[np.float64]:
        """Diagonals of V, (n, q)."""
        q = self._mean.shape[1]
        diagonal = np.arange(q) * (np.arange(q) + 3) // 2
        return self._packed[:, diagonal].numpy()

    def reparameterize(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent states (K, n, q) from standard normal noise, and their log-densities (K, n)."""
        z = self._mean + torch.einsum("ikl,sil->sik", self.scale, noise)
        return z, -0.5 * noise.square().sum(-1) - self._log_normalizer

    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        r"""Log-density of latent states z (..., n, q): :math:`\log q(z_i)`, (..., n), in nats."""
        noise = self.whiten(as_double(z))
        return (-0.5 * noise.square().sum(-1) - self._log_normalizer).numpy()

    @property
    def gaussian(self) -> GaussianPosterior:
        """These Gaussians themselves."""
        return self

    def divergence(self, prior: Prior) -> NDArray[np.float64] | None:
        r"""Divergence of each cell, :math:`KL(N(m_i, V_i) \,\|\, p(z))` (n,) in nats; None where it has no closed form."""
        found = prior.divergence_from_gaussian(self.mean, self.variance, self.log_det_scale.numpy())
        return prior.divergence_from_scale(self._mean, self.scale) if found is None else found

    def marginal_divergences(self, prior: Prior, seed: int = 0) -> NDArray[np.float64]:
        r"""Divergences of each dimension (n, q), in closed form or by quadrature."""
        return prior.marginal_divergence_from_gaussian(self.mean, self.variance)

    def rotate(self, rotation: ArrayLike | torch.Tensor) -> GaussianPosterior:
        """Posteriors of z R, for a rotation R (q, q)."""
        r = as_double(rotation)
        covariance = r.T @ self._covariance() @ r
        rows, columns = torch.tril_indices(*r.shape)
        return GaussianPosterior(self._mean @ r, covariance[:, rows, columns])

    def whiten(self, z: torch.Tensor) -> torch.Tensor:
        """The standard normal noise that gives latent states z (..., n, q)."""
        difference = z - self._mean
        draws = difference.reshape(-1, *self._mean.shape).permute(1, 2, 0)
        noise = torch.linalg.solve_triangular(self.scale, draws, upper=False)
        return noise.permute(2, 0, 1).reshape(difference.shape)

    @cached_property
    def log_det_scale(self) -> torch.Tensor:
        """½ log det V, (n,)."""
        return self.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @property
    def _log_normalizer(self) -> torch.Tensor:
        return self.log_det_scale + 0.5 * self._mean.shape[1] * math.log(2 * math.pi)

    def _covariance(self) -> torch.Tensor:
        n, q = self._mean.shape
        rows, columns = torch.tril_indices(q, q)
        full = torch.empty((n, q, q), dtype=torch.float64)
        full[:, rows, columns] = self._packed
        full[:, columns, rows] = self._packed
        return full

    @cached_property
    def scale(self) -> torch.Tensor:
        """Cholesky factors of V, (n, q, q), as a tensor.

        V is stored in float32, so its smallest eigenvalue may have rounded to below zero in cells with millions of
        counts: those few get the rounding error back on their diagonal. A cell whose V is no covariance even then has a
        factor of NaN, and no other cell suffers from it.
        """
        covariance = self._covariance()
        factor, info = torch.linalg.cholesky_ex(covariance)
        bad = info > 0
        if bad.any():
            q = covariance.shape[-1]
            largest = covariance[bad].diagonal(dim1=-2, dim2=-1).amax(-1)
            jitter = _JITTER * q * largest[:, None, None] * torch.eye(q, dtype=torch.float64)
            repaired, info = torch.linalg.cholesky_ex(covariance[bad] + jitter)
            factor[bad] = torch.where((info > 0)[:, None, None], torch.nan, repaired)
        return factor

    def __getitem__(self, cells: Any) -> GaussianPosterior:
        """Posteriors of some of the cells."""
        cells = np.atleast_1d(np.arange(len(self))[cells])
        return GaussianPosterior(self._mean[cells], self._packed[cells])

    def __len__(self) -> int:
        return len(self._mean)

    def __repr__(self) -> str:
        return f"GaussianPosterior({len(self):,} cells, {self.n_latent} latent dimensions)"
