"""Gradients of a bound over discrete walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def leave_one_out(log_joint: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    r"""Numbers whose gradient is an unbiased estimate of that of the evidence lower bound.

    .. math:: \frac1K \sum_k \nabla \log p(y, z_k) + (f_k - \tfrac{1}{K - 1} \sum_{j \neq k} f_j) \nabla \log q(z_k \mid y), \quad
        f = \log p(y, z) - \log q(z \mid y)

    of K walks drawn from q. The score function's mean is 0, so that what it is multiplied with may be centred by the other walks, which are independent of it.

    Parameters
    ----------
    log_joint
        log p(y, z) of walks, (n, K), K at least 2.
    log_q
        log q(z | y), (n, K).

    Returns
    -------
    (n,); the values are no bound.

    References
    ----------
    R. J. Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning, Machine Learning 8: 229-256. W. Kool, H. van Hoof and M.
    Welling (2019), Buy 4 REINFORCE samples, get a baseline for free!, ICLR workshop on deep reinforcement learning meets structured prediction.

    Examples
    --------
    >>> import torch
    >>> log_q = torch.tensor([[0.5, 0.5]]).log().requires_grad_()
    >>> leave_one_out(torch.tensor([[-1.0, -3.0]]), log_q).sum().backward()
    >>> log_q.grad
    tensor([[ 1., -1.]])
    """
    reward = (log_joint - log_q).detach()
    n_walks = reward.shape[1]
    centred = (reward - reward.mean(1, keepdim=True)) * (n_walks / (n_walks - 1))
    return (log_joint + centred * log_q).mean(1)
