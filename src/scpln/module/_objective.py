"""Evidence bounds from log-weights, and their gradients along the path of the draws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._conditional import Conditional


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


def climb(
    log_joint: Callable[[torch.Tensor], torch.Tensor],
    posterior: Conditional,
    *,
    n_samples: int,
    n_importance: int,
    generator: torch.Generator,
) -> torch.Tensor:
    r"""Add the gradient of minus the mean bound to all parameters, and return the bound of each cell (n,).

    The bound is the mean, over `n_samples` groups, of the importance-weighted bound of `n_importance` draws each; one
    draw a group gives the evidence lower bound. With normalised weights w̃ in each group and
    :math:`\ell = \log p(y, z) - \log q(z)`, parameters of the model get

    .. math:: \sum_k \tilde w_k \, \partial_\theta \log p(y, z_k),

    and those of the posterior the doubly reparametrised gradient

    .. math:: \sum_k \tilde w_k^2 \, \partial_z \ell_k \cdot \partial_\phi z_k,

    which for one draw is the path gradient: unbiased, and without noise where q is the exact posterior.

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
    >>> bound = climb(log_joint, prior, n_samples=4, n_importance=1, generator=torch.Generator())
    >>> bound.abs().max() < 1e-6, mean.grad.abs().max() < 1e-6
    (tensor(True), tensor(True))

    References
    ----------
    G. Roeder, Y. Wu and D. Duvenaud (2017), Sticking the landing, NeurIPS. G. Tucker, D. Lawson, S. Gu and
    C. Maddison (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives, ICLR.
    """
    loc = posterior.loc
    shape = (n_samples * n_importance, *loc.shape)
    noise = torch.randn(shape, generator=generator, dtype=loc.dtype).requires_grad_(posterior.flow is not None)
    draws = posterior.push(noise)
    z = draws.z.detach().requires_grad_()
    log_p = log_joint(z)
    log_weights = (log_p - draws.log_q).detach().reshape(n_samples, n_importance, -1)
    share = torch.softmax(log_weights, dim=1).reshape(log_p.shape)
    upstream = -share / (n_samples * loc.shape[0])
    log_p.backward(upstream)
    if draws.z.requires_grad:
        assert z.grad is not None
        slope = z.grad - upstream[..., None] * posterior.score(draws)
        draws.z.backward(slope if n_importance == 1 else slope * share[..., None])
    return importance_bound(log_weights, dim=1).mean(0)
