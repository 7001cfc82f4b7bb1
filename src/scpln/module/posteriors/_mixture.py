"""Posteriors that are mixtures, of one Gaussian or flow for each component of a mixture prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._base import Posterior, as_double

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from scpln.module.priors import Prior


class MixturePosterior(Posterior):
    r"""Posteriors :math:`q(z_i) = \sum_k q(k \mid y_i) \, q(z_i \mid y_i, k)` of n cells.

    Parameters
    ----------
    weights
        Probabilities q(k | y), (n, K).
    components
        Posteriors q(z | y, k) of the n cells, for each k.

    Examples
    --------
    >>> from scpln.module import GaussianPosterior
    >>> low, high = (GaussianPosterior(np.full((3, 1), mean), np.ones((3, 1))) for mean in (-2.0, 2.0))
    >>> posterior = MixturePosterior(np.tile([0.25, 0.75], (3, 1)), [low, high])
    >>> posterior
    MixturePosterior(3 cells, 1 latent dimensions, 2 components)
    >>> posterior.mean[0], posterior.variance[0]
    (array([1.]), array([4.]))
    """

    def __init__(self, weights: ArrayLike | torch.Tensor, components: Sequence[Posterior]) -> None:
        self.weights, self.components = as_double(weights), list(components)

    @property
    def draw_cost(self) -> int:  # type: ignore[override]
        """A draw takes as long as its density under all components."""
        return sum(part.density_cost for part in self.components)

    def responsibilities(self, prior: Prior) -> NDArray[np.float64]:
        """Probabilities q(k | y) of the components (n, K), which these posteriors have themselves."""
        return self.weights.numpy()

    @property
    def n_latent(self) -> int:
        """Latent dimensions q."""
        return self.components[0].n_latent

    @property
    def n_noise(self) -> int:
        """Normal numbers that a draw takes: one chooses the component."""
        return self.n_latent + 1

    @property
    def mean(self) -> NDArray[np.float64]:
        """Posterior means, (n, q)."""
        return np.einsum("nk,knq->nq", self.weights.numpy(), self._means)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Posterior covariances, (n, q, q)."""
        weights, centered = self.weights.numpy(), self._means - self.mean
        within = np.einsum("nk,knab->nab", weights, np.stack([part.covariance for part in self.components]))
        return within + np.einsum("nk,kna,knb->nab", weights, centered, centered)

    @property
    def _means(self) -> NDArray[np.float64]:
        return np.stack([part.mean for part in self.components])

    def sample(self, n: int = 1, seed: int = 0) -> NDArray[np.float64]:
        """Draw `n` latent states of every cell: (n, cells, q)."""
        shape = (n, len(self), self.n_noise)
        return self._states(
            torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ).numpy()

    def reparameterize(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent states (S, n, q) from standard normal noise (S, n, q + 1), and their log-densities (S, n)."""
        z = self._states(noise)
        return z, torch.from_numpy(self.log_prob(z.numpy()))

    def _states(self, noise: torch.Tensor) -> torch.Tensor:
        """The first number of each draw chooses the component, the others are the noise of its state."""
        uniform = torch.special.ndtr(noise[..., 0])
        chosen = torch.searchsorted(self.weights.cumsum(1)[:, :-1].contiguous(), uniform.T.contiguous()).T
        states = torch.stack([part.reparameterize(noise[..., 1:])[0] for part in self.components])
        return states.gather(0, chosen[None, ..., None].expand(1, *states.shape[1:]))[0]

    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        r"""Log-density of latent states z (..., n, q): :math:`\log q(z_i)`, (..., n), in nats."""
        parts = torch.stack([torch.from_numpy(part.log_prob(z)) for part in self.components], -1)
        return torch.logsumexp(parts + self.weights.log(), -1).numpy()

    def __getitem__(self, cells: Any) -> MixturePosterior:
        """Posteriors of some of the cells."""
        cells = np.atleast_1d(np.arange(len(self))[cells])
        return MixturePosterior(self.weights[cells], [part[cells] for part in self.components])

    def __len__(self) -> int:
        return len(self.weights)

    def __repr__(self) -> str:
        sizes = f"{len(self):,} cells, {self.n_latent} latent dimensions, {len(self.components)} components"
        return f"MixturePosterior({sizes})"
