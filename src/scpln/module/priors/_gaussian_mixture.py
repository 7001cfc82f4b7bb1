"""The mixture of Gaussians as a prior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from ._mixture import Mixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


#: Smallest standard deviation of a component along any axis given the ones before it. Without it, a component that
#: holds one cell, or cells that coincide, could have a density without bound.
SMALLEST_SCALE = 0.03


class GaussianMixture(Mixture):
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
    def log_weights(self) -> torch.Tensor:  # type: ignore[override]
        """Log π, (K,)."""
        return torch.log_softmax(self.logits, 0)

    @property
    def scale(self) -> torch.Tensor:  # type: ignore[override]
        """Lower-triangular factors L of the covariances, (K, q, q), with diagonals above 0.03."""
        scale = torch.diag_embed(self._diagonal)
        if self.full:
            rows, columns = torch.tril_indices(self.n_latent, self.n_latent, offset=-1, device=scale.device)
            scale = scale.index_put((torch.arange(self.n_components)[:, None], rows, columns), self.below)
        return scale

    @property
    def _diagonal(self) -> torch.Tensor:
        return SMALLEST_SCALE + self.log_scale.exp()

    def log_prob_given_component(self, z: torch.Tensor) -> torch.Tensor:
        """Log p(z | k), (..., K, n), of the states of component k, for each k: z (..., K, n, q)."""
        return self._log_density((z - self.loc[:, None]).transpose(-2, -3)).mT

    def _log_density(self, difference: torch.Tensor) -> torch.Tensor:
        """Log-densities (..., K) of differences from the means (..., K, q)."""
        if self.full:
            return super()._log_density(difference)
        whitened, log_det = difference / self._diagonal, self._diagonal.log().sum(-1)
        return -0.5 * whitened.square().sum(-1) - log_det - 0.5 * self.n_latent * math.log(2 * math.pi)

    def log_prob_labelled(self, z: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
        """Log p(z, k) of cells whose component is known, and log p(z) of others (−1 in `components`, (n,)): (..., n)."""
        log_joint = self.log_joint(z)
        total = torch.logsumexp(log_joint, -1)
        index = components.clamp_min(0).expand(total.shape)[..., None]
        return torch.where(components >= 0, log_joint.gather(-1, index)[..., 0], total)

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
