"""Evidence bounds from log-weights, and their gradients along the path of the draws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.module.posteriors import Conditional, Draws


def importance_bound(log_weights: torch.Tensor, dim: int = 0) -> torch.Tensor:
    r"""Importance-weighted bound :math:`\log \frac1K \sum_k e^{\ell_k}` of log-weights, over one dimension.

    References
    ----------
    Y. Burda, R. Grosse and R. Salakhutdinov (2016), Importance weighted autoencoders, ICLR.

    Examples
    --------
    >>> importance_bound(torch.tensor([-1.0, -1.0, -1.0]))
    tensor(-1.)
    """
    return torch.logsumexp(log_weights, dim) - math.log(log_weights.shape[dim])


def path_loss(
    log_joint: torch.Tensor,
    posterior: Conditional,
    draws: Draws,
    *,
    n_importance: int = 1,
    kl_weight: float = 1.0,
    cell_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""A scalar whose gradient is that of minus the mean bound, and the bound of each cell (n,), detached.

    The bound is the mean, over groups of `n_importance` draws, of the importance-weighted bound of each group; one
    draw a group gives the evidence lower bound. With normalised weights w̃ in each group and
    :math:`\ell = \log p(y, z) - \log q(z)`, parameters of the model get

    .. math:: \sum_k \tilde w_k \, \partial_\theta \log p(y, z_k),

    and those of the posterior the doubly reparametrised gradient

    .. math:: \sum_k \tilde w_k^2 \, \partial_z \ell_k \cdot \partial_\phi z_k,

    which for one draw is the path gradient: unbiased, and without noise where q is the exact posterior.

    Parameters
    ----------
    log_joint
        log p(y, z) of the draws (K, n); log p(y | z) + β log p(z) where β is the weight of the Kullback–Leibler term.
    posterior, draws
        Posteriors of these cells, and the draws; of a flow, from noise that requires gradients.
    n_importance
        Draws in each group.
    kl_weight
        Weight β of −log q(z).
    cell_weights
        Weight of each cell in the mean (n,); by default 1.

    References
    ----------
    G. Roeder, Y. Wu and D. Duvenaud (2017), Sticking the landing, NeurIPS. G. Tucker, D. Lawson, S. Gu and
    C. Maddison (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives, ICLR.
    """
    n = log_joint.shape[1]
    log_weights = (log_joint - kl_weight * draws.log_q).detach().reshape(-1, n_importance, n)
    normalized_weights = torch.softmax(log_weights, dim=1).reshape(log_joint.shape)
    upstream = normalized_weights / (len(log_weights) * n)
    if cell_weights is not None:
        upstream = upstream * cell_weights
    if draws.z.requires_grad and torch.is_grad_enabled():
        score = posterior.score(draws)
        inner = kl_weight * upstream[..., None] * score

        def along_the_path(slope: torch.Tensor) -> torch.Tensor:
            slope = slope + inner
            return slope if n_importance == 1 else slope * normalized_weights[..., None]

        draws.z.register_hook(along_the_path)
    bound = importance_bound(log_weights, dim=1).mean(0)
    value = bound.mean() if cell_weights is None else (bound * cell_weights).mean()
    surrogate = (upstream * log_joint).sum()
    return surrogate.detach() - value - surrogate, bound


def backpropagate_bound(
    log_joint: Callable[[torch.Tensor], torch.Tensor],
    posterior: Conditional,
    *,
    n_samples: int,
    n_importance: int,
    generator: torch.Generator,
) -> torch.Tensor:
    r"""Add the gradient of minus the mean bound to all parameters, and return the bound of each cell (n,).

    Parameters
    ----------
    log_joint
        log p(y, z) (K, n) of latent states z (K, n, q).
    posterior
        Posteriors of these cells.
    n_samples, n_importance
        Groups of draws of each cell, and draws in each.
    generator
        Of the draws.

    Examples
    --------
    >>> from scpln.module import Conditional
    >>> mean = torch.zeros(3, 2, requires_grad=True)
    >>> prior = Conditional(mean, torch.eye(2).expand(3, 2, 2))
    >>> def log_joint(z):  # of a likelihood of 1, whatever z: the prior is the posterior
    ...     return -0.5 * z.square().sum(-1) - math.log(2 * math.pi)
    >>> bound = backpropagate_bound(log_joint, prior, n_samples=4, n_importance=1, generator=torch.Generator())
    >>> bound.abs().max() < 1e-6, mean.grad.abs().max() < 1e-6
    (tensor(True), tensor(True))
    """
    draws = posterior.draw(n_samples * n_importance, generator)
    loss, bound = path_loss(log_joint(draws.z), posterior, draws, n_importance=n_importance)
    loss.backward()
    return bound
