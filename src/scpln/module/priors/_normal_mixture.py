"""A mixture of normal distributions that are given, with any covariances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ._mixture import Mixture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class NormalMixture(Mixture):
    r"""Latent states from :math:`\sum_k \pi_k N(m_k, \Sigma_k)`, whose parameters are set and not learned by gradients.

    It starts with all components N(0, I).

    Parameters
    ----------
    n_components, n_latent
        Components K and dimensions q.

    Attributes
    ----------
    log_weights
        Log π, (K,).
    loc, scale
        Means (K, q) and Cholesky factors of the covariances (K, q, q).

    Examples
    --------
    >>> prior = NormalMixture(2, 1)
    >>> prior.place([0.25, 0.75], [[-1.0], [1.0]], [[[1.0]], [[2.0]]])
    >>> prior.log_prob(torch.zeros(1, dtype=torch.float64)).exp()
    tensor(0.1925, dtype=torch.float64)
    """

    def __init__(self, n_components: int, n_latent: int) -> None:
        super().__init__()
        self.n_components, self.n_latent = n_components, n_latent
        weights = torch.full((n_components,), 1 / n_components, dtype=torch.float64)
        self.register_buffer("log_weights", weights.log())
        self.register_buffer("loc", torch.zeros((n_components, n_latent), dtype=torch.float64))
        self.register_buffer("scale", torch.eye(n_latent, dtype=torch.float64).repeat(n_components, 1, 1))

    def place(self, weights: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> None:
        """Set weights (K,), means (K, q) and Cholesky factors (K, q, q)."""
        self.log_weights.copy_(torch.as_tensor(weights, dtype=torch.float64).log())
        self.loc.copy_(torch.as_tensor(loc))
        self.scale.copy_(torch.as_tensor(scale))
