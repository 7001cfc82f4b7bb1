"""Counts of all nodes of a tree in samples, some of which may lack some nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._node import NodeCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Tree


@dataclass(frozen=True)
class TreeCounts:
    """Counts of nodes, (n, V), and the design, (n, d).

    Parameters
    ----------
    tree
        Without only children.
    counts
        Of every node: that of a node is the sum of its children's.
    design
        Columns of the design, the first an intercept.
    present
        Which nodes each sample has, (n, V); all if None.
    streams
        Numbers of the samples, (n,), of which each has a stream of random numbers of its own where walks are drawn; 0 … n − 1 if None.
    """

    tree: Tree
    counts: Array
    design: Array
    present: NDArray[np.bool_] | None = None
    streams: NDArray[np.intp] | None = None

    @classmethod
    def of(
        cls,
        tree: Tree,
        leaves: Any,
        design: Array,
        observed: NDArray[np.bool_] | None = None,
        streams: NDArray[np.intp] | None = None,
    ) -> TreeCounts:
        """From counts of leaves, (n, leaves) in the order of ``tree.leaves``, and which of these were observed.

        A node of which no leaf was observed is one that the sample lacks; others have the sums of the leaves that were.

        Examples
        --------
        >>> import numpy as np
        >>> from scpln.core import Tree
        >>> tree = Tree.from_edges([("root", "B"), ("root", "T"), ("T", "CD4"), ("T", "CD8")])
        >>> TreeCounts.of(tree, np.array([[3, 2, 1]]), np.ones((1, 1))).counts
        array([[6., 3., 3., 2., 1.]])
        """
        if observed is None or observed.all():
            return cls(tree, tree.sums(leaves), design, None, streams)
        kept = np.where(observed, leaves.toarray() if hasattr(leaves, "toarray") else leaves, 0)
        return cls(tree, tree.sums(kept), design, tree.sums(observed) > 0, streams)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def totals(self) -> Array:
        """Of each sample, (n,): what all is conditional on."""
        return self.counts[:, 0]

    def of_node(self, node: int) -> NodeCounts:
        """Counts of the children of a node."""
        children = self.tree.children[node]
        return NodeCounts(
            self.counts[:, children], self.design, None if self.present is None else self.present[:, children]
        )

    def subset(self, rows: NDArray[np.intp]) -> TreeCounts:
        """Some of the samples."""
        present = None if self.present is None else self.present[rows]
        streams = rows if self.streams is None else self.streams[rows]
        return TreeCounts(self.tree, self.counts[rows], self.design[rows], present, streams)
