"""Walks given the counts of a sample: the approximate posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._policy import draw_walks, log_policy

if TYPE_CHECKING:
    from ._tree_tensors import TreeTensors

#: Units of the hidden layer.
HIDDEN = 32


class WalkProposal(nn.Module):
    r"""q(z | y), of the form of the policy, with log-weights :math:`a + f(r, x)` of log-ratios r and covariates x, and a λ of its own.

    At first it is the policy that has no preferences, whatever the counts.

    Parameters
    ----------
    tree
        Of V nodes, m of which are inner ones.
    n_columns
        Columns of the design.
    """

    def __init__(self, tree: TreeTensors, n_columns: int) -> None:
        super().__init__()
        self.tree = tree
        last = nn.Linear(HIDDEN, tree.n_inner)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.encoder = nn.Sequential(nn.Linear(len(tree.parent) + n_columns - 1, HIDDEN), nn.Tanh(), last)
        self.penalty = nn.Parameter(torch.zeros(()))

    def log_weights(self, ratios: torch.Tensor, design: torch.Tensor) -> torch.Tensor:
        """Of inner nodes, (n, m), given log-ratios (n, V − 1) and the design (n, d)."""
        return self.encoder(torch.cat([ratios, design[:, 1:]], 1))

    def draw(self, ratios: torch.Tensor, design: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        """Walks (n, K, m), from uniform numbers (n, K, m − 1)."""
        return draw_walks(self.tree, self.log_weights(ratios, design), self.penalty, uniforms)

    def log_prob(self, ratios: torch.Tensor, design: torch.Tensor, walks: torch.Tensor) -> torch.Tensor:
        """Nats, (n, K)."""
        return log_policy(self.tree, walks, self.log_weights(ratios, design), self.penalty)
