"""What every posterior can do, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from scipy.stats import differential_entropy

from ._normal_points import normal_points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.module.priors import Mixture, Prior

    from ._gaussian import GaussianPosterior

#: Cells whose draws are in memory at a time, for responsibilities and for densities of single dimensions.
_CELLS, _DENSITY_CELLS = 256, 500
#: Draws of each cell that densities of single dimensions are estimated from.
_DENSITY_DRAWS = 500


def as_double(array: ArrayLike | torch.Tensor) -> torch.Tensor:
    """Copy as a float64 tensor on the CPU."""
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().double()
    return torch.from_numpy(np.array(array, dtype=np.float64))


class Posterior(ABC):
    """Posteriors of the latent states of n cells, in q dimensions.

    NumPy arrays go in and come out; the arithmetic is float64. Only `reparameterize`, for bounds, has tensors.
    """

    #: Whether these are Gaussians, so that expectations under them may have a closed form.
    is_gaussian: ClassVar[bool] = False
    #: Genes whose log-probabilities take as long as a draw of a cell and its density; the same of a density elsewhere.
    draw_cost: ClassVar[int] = 0
    density_cost: ClassVar[int] = 0

    @property
    @abstractmethod
    def n_latent(self) -> int:
        """Latent dimensions q."""

    @property
    def n_noise(self) -> int:
        """Standard normal numbers that a draw takes: those of `reparameterize`."""
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
        return self.reparameterize(noise)[0].numpy()

    @abstractmethod
    def reparameterize(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent states (K, n, q) from standard normal noise (K, n, n_noise), and log-densities (K, n); all float64."""

    @abstractmethod
    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        r"""Log-density of latent states z (..., n, q): :math:`\log q(z_i)`, (..., n), in nats."""

    @property
    def gaussian(self) -> GaussianPosterior | None:
        """The Gaussians that these are, or that a flow transforms; None if there is not one for each cell."""
        return None

    @property
    def context(self) -> torch.Tensor | None:
        """What a flow is conditioned on, (n, c), float64; None without one."""
        return None

    def divergence(self, prior: Prior) -> NDArray[np.float64] | None:
        r"""Divergence of each cell, :math:`KL(q(z_i) \,\|\, p(z))` (n,) in nats; None where it has no closed form."""
        return None

    def divergence_of_components(self, prior: Mixture, numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        r"""Divergences of Gaussians from one component of a mixture each, whose `numbers` are given (n,), in nats."""
        return prior.divergence_of_components(as_double(self.mean), as_double(self.covariance), numbers)

    def marginal_divergences(self, prior: Prior, seed: int = 0) -> NDArray[np.float64]:
        r"""Divergences of each dimension, :math:`KL(q(z_{ij}) \,\|\, p(z_j))` (n, q) in nats.

        From draws, whose entropies follow from how far apart they are (Vasicek's estimator), unless there is a closed form.
        """
        parts = []
        for start in range(0, len(self), _DENSITY_CELLS):
            z = self[start : start + _DENSITY_CELLS].sample(_DENSITY_DRAWS, seed=seed + start)
            log_prior = prior.log_marginals(torch.from_numpy(z)).numpy()
            parts.append(-differential_entropy(z, axis=0) - log_prior.mean(0))
        return np.concatenate(parts)

    def responsibilities(self, prior: Prior) -> NDArray[np.float64]:
        r"""Probabilities of the prior's components, :math:`E_{q(z_i)}[p(k \mid z)]` (n, K), from the same points for every cell."""
        result = np.empty((len(self), prior.n_components))
        points = normal_points(self.n_latent)[:, None]
        for start in range(0, len(self), _CELLS):
            part = self[start : start + _CELLS]
            with torch.no_grad():
                z, _ = part.reparameterize(points.expand(-1, len(part), -1))
                result[start : start + _CELLS] = prior.responsibilities(z).mean(0).numpy()
        return result

    @abstractmethod
    def __getitem__(self, cells: Any) -> Self:
        """Posteriors of some of the cells."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of cells."""
