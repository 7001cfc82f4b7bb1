"""The mixture of Gaussians as a prior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ._base import Prior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


#: Smallest standard deviation of a component along any axis given the ones before it. Without it, a component that
#: holds one cell, or cells that coincide, could have a density without bound.
SMALLEST_SCALE = 0.03


class GaussianMixture(Prior):
    r"""Latent states from a mixture of K Gaussians, :math:`p(z) = \sum_k \pi_k N(z; m_k, L_k L_k^T)`.

    Parameters
    ----------
    n_components, n_latent
        Components K and dimensions q.
    full
        Whether covariances are full, or diagonal.
    weights
        Weights π: None to learn them, ``"uniform"``, or K numbers that add up to 1.

    Examples
    --------
    >>> prior = GaussianMixture(n_components=3, n_latent=2)
    >>> z = torch.zeros(5, 2)
    >>> prior.log_joint(z).shape, prior.log_prob(z).shape
    (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self, n_components: int, n_latent: int, *, full: bool = False, weights: str | Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.n_components, self.n_latent, self.full = n_components, n_latent, full
        fixed = torch.zeros(n_components)
        if weights is not None and not isinstance(weights, str):
            fixed = torch.as_tensor(weights, dtype=torch.float32).log()
        self.logits = nn.Parameter(fixed, requires_grad=weights is None)
        self.loc = nn.Parameter(torch.randn(n_components, n_latent))
        self.log_scale = nn.Parameter(torch.zeros(n_components, n_latent))
        n_below = n_latent * (n_latent - 1) // 2 if full else 0
        self.below = nn.Parameter(torch.zeros(n_components, n_below), requires_grad=full)

    @property
    def log_weights(self) -> torch.Tensor:
        """Log π, (K,)."""
        return torch.log_softmax(self.logits, 0)

    @property
    def scale(self) -> torch.Tensor:
        """Lower-triangular factors L of the covariances, (K, q, q), with diagonals above 0.03."""
        scale = torch.diag_embed(self._diagonal)
        if self.full:
            rows, columns = torch.tril_indices(self.n_latent, self.n_latent, offset=-1, device=scale.device)
            scale = scale.index_put((torch.arange(self.n_components)[:, None], rows, columns), self.below)
        return scale

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

    @property
    def _diagonal(self) -> torch.Tensor:
        return SMALLEST_SCALE + self.log_scale.exp()

    def log_components(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z | k), (..., K), of latent states z (..., q)."""
        return self._log_density(z[..., None, :] - self.loc)

    def log_prob_given_component(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z | k), (..., K, n), of the states of component k, for each k: z (..., K, n, q)."""
        return self._log_density((z - self.loc[:, None]).transpose(-2, -3)).mT

    def _log_density(self, difference: torch.Tensor) -> torch.Tensor:
        """Log-densities (..., K) of differences from the means (..., K, q)."""
        if self.full:
            eye = torch.eye(self.n_latent, dtype=difference.dtype, device=difference.device).expand(
                self.n_components, -1, -1
            )
            inverse = torch.linalg.solve_triangular(self.scale, eye, upper=False)
            whitened = torch.einsum("kab,...kb->...ka", inverse, difference)
        else:
            whitened = difference / self._diagonal
        log_det = self._diagonal.log().sum(-1)
        return -0.5 * whitened.square().sum(-1) - log_det - 0.5 * self.n_latent * math.log(2 * math.pi)

    def log_joint(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z, k) = log π_k + log p(z | k), (..., K), of latent states z (..., q)."""
        return self.log_components(z) + self.log_weights

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z), the sum over components being exact."""
        return torch.logsumexp(self.log_joint(z), -1)

    def log_prob_labelled(self, z: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
        """Log p(z, k) of cells whose component is known, and log p(z) of others (−1 in `components`, (n,)): (..., n)."""
        log_joint = self.log_joint(z)
        total = torch.logsumexp(log_joint, -1)
        index = components.clamp_min(0).expand(total.shape)[..., None]
        return torch.where(components >= 0, log_joint.gather(-1, index)[..., 0], total)

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

    def penalty(self) -> torch.Tensor:
        r"""A weak prior on the components, worth one cell each: :math:`\sum_k KL(N(m_k, L_k L_k^T) \,\|\, N(0, I))`.

        It keeps a component that has lost its cells near those of the others, and its covariance from shrinking to
        nothing; and it fixes the scale of z, which the likelihood alone would leave free.
        """
        squares = self.scale.square().sum() + self.loc.square().sum() - self.loc.numel()
        return 0.5 * squares - self._diagonal.log().sum()

    @torch.no_grad()
    def place(self, loc: ArrayLike, covariance: ArrayLike, weights: ArrayLike) -> None:
        """Set means (K, q), covariances (K, q, q), of which a diagonal prior takes the diagonal, and weights (K,)."""
        covariance = torch.as_tensor(covariance, dtype=torch.float64)
        if not self.full:
            covariance = torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
        factor = torch.linalg.cholesky(covariance)
        self.loc.copy_(torch.as_tensor(loc))
        diagonal = factor.diagonal(dim1=-2, dim2=-1) - SMALLEST_SCALE
        self.log_scale.copy_(diagonal.clamp_min(SMALLEST_SCALE).log())
        if self.full:
            rows, columns = torch.tril_indices(self.n_latent, self.n_latent, offset=-1)
            self.below.copy_(factor[:, rows, columns])
        if self.logits.requires_grad:
            self.logits.copy_(torch.as_tensor(weights).log())
