"""Walks that visit the inner nodes of a tree, parents before children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from ._tree_tensors import TreeTensors


def log_policy(
    tree: TreeTensors, walks: torch.Tensor, log_weights: torch.Tensor, penalty: torch.Tensor
) -> torch.Tensor:
    r"""Log-probability of whole walks.

    .. math:: p(z) = \prod_{t > 1} \frac{e^{-\lambda d(z_{t-1}, z_t) + a_{z_t}}}{\sum_{u \in F_t} e^{-\lambda d(z_{t-1}, u) + a_u}}

    where the frontier :math:`F_t` are nodes not visited yet whose parent was, and d counts edges. Walks begin at the root.

    Parameters
    ----------
    walks
        Inner nodes in the order of visits, (n, K, m).
    log_weights
        a, of each sample or one for all, (n or 1, m).
    penalty
        λ, a number.

    Returns
    -------
    Nats, (n, K).

    Examples
    --------
    >>> import torch
    >>> from scpln.core import Tree
    >>> from scpln.module.treewalk import TreeTensors
    >>> edges = [("root", "A"), ("root", "B"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")]
    >>> tree = TreeTensors.of(Tree.from_edges(edges))
    >>> log_policy(tree, torch.tensor([[[0, 1, 2], [0, 2, 1]]]), torch.zeros(1, 3), torch.tensor(1.0)).exp()
    tensor([[0.5000, 0.5000]])
    """
    when = walks.argsort(-1)
    steps = torch.arange(1, tree.n_inner, device=walks.device)[:, None]
    is_open = (when[..., tree.above][..., None, :] < steps) & (when[..., None, 1:] >= steps)
    here, there = walks[..., :-1], walks[..., 1:]
    nearness = functional.embedding(here, (-penalty * tree.distances.to(log_weights)).exp())[..., 1:]
    centred = log_weights - log_weights.amax(-1, keepdim=True).detach()
    sums = torch.einsum("nktv,nv->nkt", nearness * is_open, centred.exp().expand(len(walks), -1)[:, 1:])
    taken = centred.expand(len(walks), -1)[:, None].expand(-1, walks.shape[1], -1).gather(-1, there)
    return (taken - penalty * tree.distances.to(log_weights)[here, there] - sums.log()).sum(-1)


@torch.no_grad()
def draw_walks(
    tree: TreeTensors, log_weights: torch.Tensor, penalty: torch.Tensor, uniforms: torch.Tensor
) -> torch.Tensor:
    """Draw walks of the law of `log_policy`, from uniform numbers in [0, 1), (n, K, m − 1): one for each step.

    Returns
    -------
    Inner nodes in the order of visits, (n, K, m).
    """
    shape = uniforms.shape[:-1]
    walks = torch.zeros((*shape, tree.n_inner), dtype=torch.long, device=uniforms.device)
    is_open = tree.opens[0].expand(*shape, -1)
    for step in range(1, tree.n_inner):
        here = walks[..., step - 1]
        energies = log_weights[:, None] - penalty * tree.distances.to(log_weights)[here]
        shares = energies.masked_fill(~is_open, -torch.inf).softmax(-1).cumsum(-1)
        reached = is_open & (shares >= uniforms[..., step - 1, None] * shares[..., -1:])
        chosen = reached.to(torch.uint8).argmax(-1)
        walks[..., step] = chosen
        is_open = (is_open | tree.opens[chosen]).scatter(-1, chosen[..., None], False)
    return walks
