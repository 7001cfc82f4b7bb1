"""Coordinates of the groups of siblings of a tree, in which nothing is redundant."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._arrays import Array
    from ._tree import Tree


@dataclass(frozen=True)
class Siblings:
    """All groups of siblings of one size K, below the first level.

    Attributes
    ----------
    parents
        Node above each group, (G,).
    nodes
        Members of each, (G, K).
    coordinates
        Positions of their coordinates, (G, K − 1).
    basis
        H, (K, K − 1), with orthonormal columns that add up to 0.
    """

    parents: NDArray[np.intp]
    nodes: NDArray[np.intp]
    coordinates: NDArray[np.intp]
    basis: Array


class TreeContrasts:
    r"""Log-ratios of siblings as coordinates of a tree without only children.

    The children of the root have log-rates of their own, :math:`z_k = u_k`. Of any other group of K siblings only differences matter, since
    the softmax of z is that of z + c; they are :math:`z = H u` with K − 1 coordinates and orthonormal contrasts H (Helmert's), so that z is
    the centred log-ratio of the shares. There are as many coordinates as leaves, level by level.

    Parameters
    ----------
    tree
        Without only children (`Tree.without_only_children`), but for a tree of one leaf.
    names
        Leaves in the order of the columns of a table; by default that of the tree.

    Raises
    ------
    ValueError
        If a node has one child, or `names` are not the leaves.

    Examples
    --------
    >>> from scpln.core import Tree, TreeContrasts
    >>> tree = Tree.from_edges([("root", "B"), ("root", "T"), ("T", "CD4 T"), ("T", "CD8 T")])
    >>> contrasts = TreeContrasts(tree, ["B", "CD4 T", "CD8 T"])
    >>> contrasts.matrix.round(3)  # nodes below the root × coordinates
    array([[ 1.   ,  0.   ,  0.   ],
           [ 0.   ,  1.   ,  0.   ],
           [ 0.   ,  0.   ,  0.707],
           [ 0.   ,  0.   , -0.707]])
    >>> contrasts.level_sizes
    [2, 1]
    """

    def __init__(self, tree: Tree, names: Sequence[str] | None = None) -> None:
        only = [node for node, below in enumerate(tree.children) if len(below) == 1]
        if only and len(tree) > 2:
            msg = f"{tree.names[only[0]]!r} has one child, which has its count: pass tree.without_only_children()."
            raise ValueError(msg)
        names = tree.leaf_names if names is None else [str(name) for name in names]
        if sorted(names) != sorted(tree.leaf_names):
            msg = "names are not the leaves of the tree: pass each leaf once, in the order of the table's columns."
            raise ValueError(msg)
        self.tree, self.names = tree, list(names)
        #: Node of each column of the table, (p,).
        self.leaves: NDArray[np.intp] = np.array([tree.position(name) for name in names], np.intp)
        #: Nodes of the first level, whose coordinates come first.
        self.top: NDArray[np.intp] = tree.children[0]
        self.level_sizes = [len(self.top)]
        self.siblings = self._group()

    def _group(self) -> list[Siblings]:
        """Groups by size; coordinates are numbered level by level."""
        found: dict[int, list[tuple[int, NDArray[np.intp], NDArray[np.intp]]]] = {}
        start, depths = len(self.top), self.tree.depths
        inner = self.tree.inner[1:]
        for node in inner[np.argsort(depths[inner], kind="stable")]:
            below = self.tree.children[node]
            level = depths[node] + 1
            self.level_sizes += [0] * (level - len(self.level_sizes))
            coordinates = np.arange(start, start + len(below) - 1)
            found.setdefault(len(below), []).append((node, below, coordinates))
            start += len(coordinates)
            self.level_sizes[level - 1] += len(coordinates)
        return [
            Siblings(
                np.array([node for node, _, _ in groups]),
                np.array([below for _, below, _ in groups]),
                np.array([coordinates for *_, coordinates in groups]),
                helmert(size),
            )
            for size, groups in sorted(found.items())
        ]

    @property
    def n_leaves(self) -> int:
        """Leaves p, as many as coordinates."""
        return len(self.leaves)

    @property
    def levels(self) -> list[slice]:
        """Coordinates of each level."""
        ends = np.cumsum([0, *self.level_sizes])
        return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(ends)]

    @cached_property
    def matrix(self) -> Array:
        """C with z = C u: log-rates of the first level, and centred log-ratios of the others, (nodes below the root, p)."""
        matrix = np.zeros((len(self.tree), self.n_leaves))
        matrix[self.top, np.arange(len(self.top))] = 1
        for group in self.siblings:
            matrix[group.nodes[:, :, None], group.coordinates[:, None, :]] = group.basis
        return matrix[1:]

    @cached_property
    def paths(self) -> Array:
        """Whether each column of the table is each node or below it, (p, nodes below the root)."""
        rank = {int(leaf): i for i, leaf in enumerate(self.tree.leaves)}
        order = [rank[int(leaf)] for leaf in self.leaves]
        return np.asarray(self.tree.membership.toarray()[order, 1:], np.float64)

    def node_counts(self, counts: Array) -> Array:
        """Counts of the nodes below the root, (n, nodes), of those of the table's columns (n, p)."""
        return np.asarray(counts, np.float64) @ self.paths

    def log_shares(self, coordinates: Array) -> Array:
        """Log-rates of the first level, and logarithms of the share that every other node has of its parent, (..., nodes below the root)."""
        z = coordinates @ self.matrix.T
        for group in self.siblings:
            own = z[..., group.nodes - 1]
            top = own.max(-1, keepdims=True)
            z[..., group.nodes - 1] = own - top - np.log(np.exp(own - top).sum(-1, keepdims=True))
        return np.asarray(z)

    def log_rates(self, coordinates: Array) -> Array:
        """Log-rates of the table's columns, (..., p)."""
        return self.log_shares(coordinates) @ self.paths.T


def helmert(size: int) -> Array:
    """Orthonormal contrasts between `size` numbers, (size, size − 1), whose columns add up to 0.

    Examples
    --------
    >>> helmert(3).round(3)
    array([[ 0.707,  0.408],
           [-0.707,  0.408],
           [ 0.   , -0.816]])
    """
    basis = np.zeros((size, size - 1))
    for j in range(1, size):
        basis[:j, j - 1], basis[j, j - 1] = 1, -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1))
    return basis
