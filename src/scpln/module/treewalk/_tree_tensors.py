"""What walks need of a tree, as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from scpln.core import Tree


@dataclass(frozen=True)
class TreeTensors:
    """A tree of V nodes, m of which are inner ones, the root first.

    Attributes
    ----------
    inner
        Positions of inner nodes in the tree, parents before children, (m,).
    parent
        Of all nodes but the root: which inner node is its parent, counted from 0, (V − 1,).
    opens
        Whether the inner node of the column is a child of that of the row, (m, m): visiting the one makes the other a place to go next.
    distances
        Edges on the way between inner nodes, (m, m).

    Examples
    --------
    >>> from scpln.core import Tree
    >>> tree = Tree.from_edges([("root", "A"), ("root", "B"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")])
    >>> TreeTensors.of(tree).distances
    tensor([[0., 1., 1.],
            [1., 0., 2.],
            [1., 2., 0.]], dtype=torch.float64)
    """

    inner: torch.Tensor
    parent: torch.Tensor
    opens: torch.Tensor
    distances: torch.Tensor

    @classmethod
    def of(cls, tree: Tree) -> TreeTensors:
        """Tensors of a tree."""
        rank = {int(v): i for i, v in enumerate(tree.inner)}
        above = np.zeros((len(tree), len(tree)))
        for node, parent in enumerate(tree.parents):
            above[node] = above[parent] if node else 0
            above[node, node] = 1
        common, depths = above[tree.inner] @ above[tree.inner].T - 1, tree.depths[tree.inner]
        parents = np.array([rank[parent] for parent in tree.parents[1:]], dtype=np.int64)
        opens = np.zeros((len(rank), len(rank)), dtype=bool)
        for node, i in rank.items():
            if node:
                opens[rank[tree.parents[node]], i] = True
        return cls(
            torch.from_numpy(tree.inner.astype(np.int64)),
            torch.from_numpy(parents),
            torch.from_numpy(opens),
            torch.from_numpy(depths[:, None] + depths - 2 * common),
        )

    @property
    def n_inner(self) -> int:
        """Inner nodes m: steps of a walk."""
        return len(self.inner)

    @property
    def above(self) -> torch.Tensor:
        """Of inner nodes but the root: which inner node is the parent, (m − 1,)."""
        return self.parent[self.inner[1:] - 1]

    def over_siblings(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over the children of each inner node, (…, m), of values of all nodes but the root, (…, V − 1)."""
        into = values.new_zeros((*values.shape[:-1], self.n_inner))
        return into.index_add(-1, self.parent, values)
