"""Posteriors that are mixtures, of one Gaussian or flow for each component of a mixture prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scpln.module.priors import Mixture

from ._base import Posterior, as_double
from ._gaussian import GaussianPosterior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from scpln.module.priors import Prior


#: Components that a cell has a posterior for, at most, where each cell has its own of them.
SLOTS = 4


def most_probable(probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
    """The four most probable components of each cell, or fewer, in the order of their probabilities (n, K)."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :SLOTS]


def mixture_posterior(
    probabilities: ArrayLike | torch.Tensor, mean: ArrayLike | torch.Tensor, covariance: ArrayLike | torch.Tensor
) -> MixturePosterior:
    """Posteriors with a Gaussian for each of the most probable components.

    Parameters
    ----------
    probabilities
        q(k | y), (n, K), in single precision.
    mean, covariance
        Means (n, M, q) and packed covariances (n, M, q(q+1)/2), in the order of `most_probable`.
    """
    single = np.asarray(probabilities, np.float32)
    numbers = most_probable(single)
    weights = np.take_along_axis(single, numbers, axis=1).astype(np.float64)
    means, covariances = as_double(mean), as_double(covariance)
    parts = [GaussianPosterior(means[:, slot], covariances[:, slot]) for slot in range(numbers.shape[1])]
    return MixturePosterior(weights / weights.sum(1, keepdims=True), parts, numbers)


class MixturePosterior(Posterior):
    r"""Posteriors :math:`q(z_i) = \sum_k q(k \mid y_i) \, q(z_i \mid y_i, k)` of n cells.

    Parameters
    ----------
    weights
        Probabilities q(k | y), (n, K).
    components
        Posteriors q(z | y, k) of the n cells, for each k.
    numbers
        Which of the prior's components these are of each cell, (n, M), where they are some of its K; by default all,
        in their order.

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

    def __init__(
        self,
        weights: ArrayLike | torch.Tensor,
        components: Sequence[Posterior],
        numbers: NDArray[np.intp] | None = None,
    ) -> None:
        self.weights, self.components, self.numbers = as_double(weights), list(components), numbers

    @property
    def draw_cost(self) -> int:  # type: ignore[override]
        """A draw takes as long as its density under all components."""
        return sum(part.density_cost for part in self.components)

    def responsibilities(self, prior: Prior) -> NDArray[np.float64]:
        """Probabilities q(k | y) of the components (n, K), which these posteriors have themselves."""
        if self.numbers is None:
            return self.weights.numpy()
        probabilities = np.zeros((len(self), prior.n_components))
        np.put_along_axis(probabilities, self.numbers, self.weights.numpy(), axis=1)
        return probabilities

    @property
    def is_of_gaussians(self) -> bool:
        """Whether the components are Gaussians, so that expectations under each may have a closed form."""
        return all(part.is_gaussian for part in self.components)

    def divergence(self, prior: Prior) -> NDArray[np.float64] | None:
        r"""Divergence of the state and its component, :math:`KL(q(k) q(z \mid k) \,\|\, \pi_k p(z \mid k))` (n,), in nats.

        It is above that of the state alone. None where it has no closed form.
        """
        if not isinstance(prior, Mixture) or not self.is_of_gaussians:
            return None
        n = len(self)
        total = prior.component_divergence(self.responsibilities(prior))
        for slot, part in enumerate(self.components):
            numbers = np.full(n, slot) if self.numbers is None else self.numbers[:, slot]
            total += self.weights[:, slot].numpy() * part.divergence_of_components(prior, numbers)
        return total

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
    def variance(self) -> NDArray[np.float64]:
        """Diagonals of the covariances, (n, q)."""
        within = np.stack([part.variance for part in self.components]) + (self._means - self.mean) ** 2
        return np.einsum("nk,knq->nq", self.weights.numpy(), within)

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
        numbers = None if self.numbers is None else self.numbers[cells]
        return MixturePosterior(self.weights[cells], [part[cells] for part in self.components], numbers)

    def __len__(self) -> int:
        return len(self.weights)

    def __repr__(self) -> str:
        sizes = f"{len(self):,} cells, {self.n_latent} latent dimensions, {len(self.components)} components"
        return f"MixturePosterior({sizes})"
