"""Samples with counts of all nodes of a tree, and what walks look at of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ._tree_tensors import TreeTensors

#: Added to counts before logarithms are taken.
PSEUDO_COUNT = 0.5


@dataclass(frozen=True)
class WalkBatch:
    """Counts (n, V − 1) of all nodes but the root, the design (n, d), and which nodes each sample has.

    Attributes
    ----------
    seen
        Whether an inner node has counts that are split among two children or more, (n, m). Others say nothing.
    log_ratios
        Centred log-ratios of counts within siblings, (n, V − 1); 0 where nothing was split.
    """

    counts: torch.Tensor
    design: torch.Tensor
    present: torch.Tensor
    seen: torch.Tensor
    log_ratios: torch.Tensor

    @classmethod
    def of(
        cls, tree: TreeTensors, counts: torch.Tensor, design: torch.Tensor, present: torch.Tensor | None = None
    ) -> WalkBatch:
        """From counts of all nodes, (n, V), and which of these each sample has."""
        own = counts[:, 1:]
        there = torch.ones_like(own, dtype=torch.bool) if present is None else present[:, 1:]
        n_there = tree.over_siblings(there.to(own))
        seen = (tree.over_siblings(own) > 0) & (n_there > 1)
        logs = torch.where(there, (own + PSEUDO_COUNT).log(), 0.0)
        means = tree.over_siblings(logs) / n_there.clamp(min=1)
        ratios = torch.where(there & seen[:, tree.parent], logs - means[:, tree.parent], 0.0)
        return cls(own, design, there, seen, ratios)

    def to(self, device: torch.device | str) -> WalkBatch:
        """The same on a device."""
        return WalkBatch(*(each.to(device) for each in vars(self).values()))

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: torch.Tensor | slice) -> WalkBatch:
        return WalkBatch(
            self.counts[rows], self.design[rows], self.present[rows], self.seen[rows], self.log_ratios[rows]
        )
