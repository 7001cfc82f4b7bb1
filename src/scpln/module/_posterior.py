"""What every posterior can do, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def as_double(array: ArrayLike | torch.Tensor) -> torch.Tensor:
    """Copy as a float64 tensor on the CPU."""
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().double()
    return torch.from_numpy(np.array(array, dtype=np.float64))


class Posterior(ABC):
    """Posteriors of the latent states of n cells, in q dimensions.

    NumPy arrays go in and come out; the arithmetic is float64. Only `push`, which bounds are made with, has tensors.
    """

    @property
    @abstractmethod
    def n_latent(self) -> int:
        """Latent dimensions q."""

    @property
    def n_noise(self) -> int:
        """Standard normal numbers that a draw takes: those of `push`."""
        return self.n_latent

    @property
    @abstractmethod
    def mean(self) -> NDArray[np.float64]:
        """Posterior means, (n, q)."""

    @property
    @abstractmethod
    def covariance(self) -> NDArray[np.float64]:
        """Posterior covariances, (n, q, q)."""

    @property
    def variance(self) -> NDArray[np.float64]:
        """Diagonals of the covariances, (n, q)."""
        return np.diagonal(self.covariance, axis1=1, axis2=2)

    @property
    def packed_covariance(self) -> NDArray[np.float64]:
        """Lower triangles of the covariances, row by row, (n, q(q+1)/2)."""
        return self.covariance[:, *np.tril_indices(self.covariance.shape[1])]

    def sample(self, n: int = 1, seed: int = 0) -> NDArray[np.float64]:
        """Draw `n` latent states of every cell: (n, cells, q)."""
        shape = (n, len(self), self.n_noise)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return self.push(noise)[0].numpy()

    @abstractmethod
    def push(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent states (K, n, q) from standard normal noise (K, n, n_noise), and log-densities (K, n); all float64."""

    @abstractmethod
    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        r"""Log-density of latent states z (..., n, q): :math:`\log q(z_i)`, (..., n), in nats."""

    @abstractmethod
    def __getitem__(self, cells: Any) -> Self:
        """Posteriors of some of the cells."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of cells."""
