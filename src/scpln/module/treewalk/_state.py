"""A recurrent state that summarises the splits that a walk has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from ._tree_tensors import TreeTensors


class WalkState(nn.Module):
    r"""State :math:`h_t = \text{GRU}(e_v + \sum_{c} u_c r_c, h_{t-1})` after visiting v, whose children c have log-ratios r; 0 at first.

    A node that has no counts to split leaves the state as it is, so that it does not matter when it was visited.

    Parameters
    ----------
    tree
        Of V nodes, m of which are inner ones.
    n_state
        Numbers of the state, H.

    References
    ----------
    K. Cho et al. (2014), Learning phrase representations using RNN encoder-decoder for statistical machine translation, EMNLP.
    """

    def __init__(self, tree: TreeTensors, n_state: int) -> None:
        super().__init__()
        self.tree = tree
        self.of_node = nn.Parameter(0.1 * torch.randn(tree.n_inner, n_state))
        self.of_ratio = nn.Parameter(0.1 * torch.randn(len(tree.parent), n_state))
        self.gru = nn.GRU(n_state, n_state, batch_first=True)

    @property
    def n_state(self) -> int:
        """Numbers of the state."""
        return int(self.of_node.shape[1])

    def inputs(self, ratios: torch.Tensor) -> torch.Tensor:
        """What visits of inner nodes tell the state, (n, m, H), of log-ratios (n, V − 1)."""
        weighted = (ratios[:, :, None] * self.of_ratio).transpose(1, 2)
        return self.of_node + self.tree.over_siblings(weighted).transpose(1, 2)

    def before(self, ratios: torch.Tensor, seen: torch.Tensor, walks: torch.Tensor) -> torch.Tensor:
        """States before the visit of each inner node.

        Parameters
        ----------
        ratios
            (n, V − 1).
        seen
            Whether each inner node has counts to split, (n, m).
        walks
            (n, K, m).

        Returns
        -------
        In the order of inner nodes, (n, K, m, H).
        """
        n, n_walks, m = walks.shape
        tells = seen[:, None].expand(-1, n_walks, -1).gather(2, walks)
        moved = (~tells).to(torch.uint8).argsort(dim=-1, stable=True)
        visits = walks.gather(2, moved)
        told = self.inputs(ratios)[:, None].expand(-1, n_walks, -1, -1)
        told = told.gather(2, visits[..., None].expand(-1, -1, -1, self.n_state))
        states = self.gru(told.reshape(n * n_walks, m, -1))[0].reshape(n, n_walks, m, -1)
        states = torch.cat([torch.zeros_like(states[:, :, :1]), states], 2)
        n_before = tells.cumsum(-1) - tells.long()
        place = n_before.gather(2, walks.argsort(-1))
        return states.gather(2, place[..., None].expand(-1, -1, -1, self.n_state))

    def after(self, state: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """States (n, H) after visits that tell this, (n, H)."""
        return self.gru(told[:, None], state[None].contiguous())[1][0]
