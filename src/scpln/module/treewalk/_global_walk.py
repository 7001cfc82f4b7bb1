"""Counts on a tree, split along a walk over the whole tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._policy import draw_walks, log_policy
from ._proposal import WalkProposal
from ._rising import log_rising
from ._state import WalkState
from ._tree_tensors import TreeTensors
from ._walk_batch import WalkBatch

if TYPE_CHECKING:
    from scpln.core import Tree


class GlobalWalkModule(nn.Module):
    r"""Counts of the nodes of a tree, given the total of each sample, of which each inner node is visited once.

    .. math::
        p(y \mid N) = \sum_z p(z) \prod_v \text{DirichletMultinomial}(y_{\text{children of } v} \mid y_v, \alpha_v(z)), \quad
        \log \alpha_c(z) = x \cdot a_c + w_c \cdot h_v(z)

    where :math:`h_v` is the state before v is visited (`WalkState`): of walks that visit parents first, all that it depends on is known by then, so that this is a law of
    counts. With w = 0 it is the Dirichlet-tree multinomial, whatever the policy.

    Parameters
    ----------
    tree
        Without only children, V nodes.
    n_columns
        Columns d of the design, the first an intercept.
    n_state
        Numbers of the state.

    Examples
    --------
    >>> import torch
    >>> from scpln.core import Tree
    >>> edges = [("root", "A"), ("root", "B"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")]
    >>> module = GlobalWalkModule(Tree.from_edges(edges), 1, 4)
    >>> counts = torch.tensor([[9.0, 5, 4, 5, 0, 1, 3]], dtype=torch.float64)
    >>> batch = module.batch(counts, torch.ones(1, 1, dtype=torch.float64))
    >>> walks = module.propose(batch, torch.rand(1, 6, 2))
    >>> module.log_joint(batch, walks).shape
    torch.Size([1, 6])
    """

    def __init__(self, tree: Tree, n_columns: int, n_state: int) -> None:
        super().__init__()
        self.tree = TreeTensors.of(tree)
        n_nodes = len(self.tree.parent)
        self.coefficients = nn.Parameter(torch.zeros(n_columns, n_nodes))
        self.on_split = nn.Parameter(torch.zeros(n_nodes, n_state))
        self.preferences = nn.Parameter(torch.zeros(self.tree.n_inner))
        self.penalty = nn.Parameter(torch.zeros(()))
        self.state = WalkState(self.tree, n_state)
        self.proposal = WalkProposal(self.tree, n_columns)
        self.center: torch.Tensor  #: means of log-ratios over the samples of the training, (V − 1,)
        self.spread: torch.Tensor  #: and their standard deviations
        self.register_buffer("center", torch.zeros(n_nodes))
        self.register_buffer("spread", torch.ones(n_nodes))
        self.double()

    def batch(self, counts: torch.Tensor, design: torch.Tensor, present: torch.Tensor | None = None) -> WalkBatch:
        """Samples, from counts of all nodes, (n, V)."""
        return WalkBatch.of(self.tree, counts, design, present)

    @torch.no_grad()
    def standardize(self, batch: WalkBatch) -> None:
        """Learn means and spreads of log-ratios, over samples in which the node was split."""
        known = batch.present & batch.seen[:, self.tree.parent]
        n = known.sum(0).clamp(min=1)
        self.center.copy_(batch.log_ratios.sum(0) / n)
        square = torch.where(known, batch.log_ratios - self.center, 0.0).square().sum(0) / n
        self.spread.copy_(torch.where(square > 0, square.sqrt(), 1.0))

    def ratios(self, batch: WalkBatch) -> torch.Tensor:
        """Standardised log-ratios, (n, V − 1), 0 where nothing was split."""
        known = batch.present & batch.seen[:, self.tree.parent]
        return torch.where(known, (batch.log_ratios - self.center) / self.spread, 0.0)

    def log_concentrations(self, batch: WalkBatch, walks: torch.Tensor) -> torch.Tensor:
        """Of all nodes but the root, (n, K, V − 1)."""
        states = self.state.before(self.ratios(batch), batch.seen, walks)
        shifts = (states[:, :, self.tree.parent] * self.on_split).sum(-1)
        return (batch.design @ self.coefficients)[:, None] + shifts

    def log_splits(self, batch: WalkBatch, walks: torch.Tensor) -> torch.Tensor:
        """Log-probability of the split of each inner node, given its count and the walk, (n, K, m), with multinomial coefficients."""
        over, there = self.tree.over_siblings, batch.present[:, None]
        counts = batch.counts[:, None]
        alpha = torch.where(there, self.log_concentrations(batch, walks).exp(), 0.0)
        safe = torch.where(there, alpha, 1.0)
        sums, totals = over(alpha), over(counts)
        sums = torch.where(sums > 0, sums, 1.0)
        of_children = log_rising(safe, counts) - torch.lgamma(counts + 1)
        return over(of_children) - log_rising(sums, totals) + torch.lgamma(totals + 1)

    def log_joint(self, batch: WalkBatch, walks: torch.Tensor) -> torch.Tensor:
        """Log-probability of counts and walks, log p(y, z | N), (n, K), nats."""
        return self.log_splits(batch, walks).sum(-1) + self.log_walks(walks)

    def log_walks(self, walks: torch.Tensor) -> torch.Tensor:
        """Of the policy, (n, K)."""
        return log_policy(self.tree, walks, self.preferences[None], self.penalty)

    def draw_walks(self, uniforms: torch.Tensor) -> torch.Tensor:
        """Walks of the policy, (n, K, m), from uniform numbers (n, K, m − 1)."""
        return draw_walks(self.tree, self.preferences[None], self.penalty, uniforms)

    def propose(self, batch: WalkBatch, uniforms: torch.Tensor) -> torch.Tensor:
        """Walks given the counts, (n, K, m), from uniform numbers (n, K, m − 1)."""
        return self.proposal.draw(self.ratios(batch), batch.design, uniforms)

    def log_proposal(self, batch: WalkBatch, walks: torch.Tensor) -> torch.Tensor:
        """Log-probability of walks given counts, log q(z | y), (n, K), nats."""
        return self.proposal.log_prob(self.ratios(batch), batch.design, walks)

    def log_prior(self, intercepts: float, coefficients: float, deviations: float) -> torch.Tensor:
        """Log-density of normal priors with these inverse variances, without constants: of intercepts, of other coefficients, and of all that tells it from a Dirichlet tree.

        Inverse variances of the state's weights are H times as large, so that what a state adds to a log-concentration varies as much, however many numbers it has.
        """
        of_policy = self.preferences.square().sum() + self.penalty.square()
        of_state = torch.stack([each.square().sum() for each in (self.on_split, *self.state.parameters())]).sum()
        of_walk = deviations * (of_policy + self.state.n_state * of_state)
        of_splits = (
            intercepts * self.coefficients[0].square().sum() + coefficients * self.coefficients[1:].square().sum()
        )
        return -0.5 * (of_walk + of_splits)
