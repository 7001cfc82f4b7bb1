"""Rooted trees whose leaves have counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ._arrays import Array

    Nodes = NDArray[np.intp]


@dataclass(frozen=True)
class Tree:
    """A rooted tree: names of its nodes, and the parent of each, in any order in which parents come before their children.

    Parameters
    ----------
    names
        Of all nodes, the root first; no two alike.
    parents
        Position of each node's parent; −1 for the root.

    Raises
    ------
    ValueError
        If names are not as many as parents, or two alike, or the first node is not the only one without a parent, or one comes before its
        parent.

    Examples
    --------
    >>> from scpln.core import Tree
    >>> tree = Tree.from_edges([("root", "B"), ("root", "T"), ("T", "CD4 T"), ("T", "CD8 T")])
    >>> tree.leaf_names
    ['B', 'CD4 T', 'CD8 T']
    >>> tree.sums([[3, 2, 1]])[:, tree.position("T")]
    array([3.])
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.parents):
            msg = f"There are {len(self.names)} names of nodes, but {len(self.parents)} parents; expected one for each."
            raise ValueError(msg)
        twice = [name for name, number in Counter(self.names).items() if number > 1]
        if twice:
            msg = f"{_some(twice)} is the name of more than one node of the tree. Rename one of them."
            raise ValueError(msg)
        if not self.parents or self.parents[0] != -1 or any(not 0 <= p < i for i, p in enumerate(self.parents) if i):
            msg = "parents must be -1 for the first node, which is the root, and the position of an earlier node for each other."
            raise ValueError(msg)

    @classmethod
    def from_edges(cls, edges: Iterable[tuple[str, str]], order: Sequence[str] = ()) -> Tree:
        """From (parent, child) pairs, level by level.

        Parameters
        ----------
        edges
            Names of parents and children; siblings stand in the order in which they come here.
        order
            Names of leaves; where they are given, leaves and then their ancestors have their order within each level.

        Raises
        ------
        ValueError
            If there is no edge, a node has two parents, there is a cycle, or more than one root.
        """
        parent_of: dict[str, str] = {}
        children: dict[str, list[str]] = {}
        for parent, child in edges:
            if parent_of.get(child, parent) != parent:
                msg = f"{child!r} has two parents in the tree, {parent_of[child]!r} and {parent!r}. Remove one of these edges, or rename one node."
                raise ValueError(msg)
            if child not in parent_of:
                children.setdefault(parent, []).append(child)
            parent_of[child] = parent
        if not parent_of:
            msg = "The tree has no edges. Give pairs (parent, child), such as ('T', 'CD4 T')."
            raise ValueError(msg)
        roots = [name for name in children if name not in parent_of]
        if len(roots) > 1:
            msg = f"The tree has {len(roots)} roots, {_some(roots)}. Join them below one node: add the edges ('root', {roots[0]!r}), ('root', {roots[1]!r})."
            raise ValueError(msg)
        levels = _levels(roots[0], children) if roots else []
        reached = {name for level in levels for name in level}
        missing = [name for name in parent_of if name not in reached]
        if missing:
            msg = f"The tree has a cycle, through {missing[0]!r}: a node cannot be below itself. Remove one edge of it."
            raise ValueError(msg)
        if order:
            rank = {name: i for i, name in enumerate(order)}
            for level in reversed(levels):
                level.sort(key=lambda name: rank.get(name, len(rank)))
                for name in level:
                    if name in parent_of and name in rank:
                        above = parent_of[name]
                        rank[above] = min(rank.get(above, rank[name]), rank[name])
        names = [name for level in levels for name in level]
        position = {name: i for i, name in enumerate(names)}
        return cls(tuple(names), (-1, *(position[parent_of[name]] for name in names[1:])))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Tree:
        """From what `to_state` gives."""
        return cls(tuple(state["names"]), tuple(state["parents"]))

    def to_state(self) -> dict[str, Any]:
        """As lists that JSON can hold."""
        return {"names": list(self.names), "parents": list(self.parents)}

    def __len__(self) -> int:
        return len(self.names)

    def position(self, name: str) -> int:
        """Of a node.

        Raises
        ------
        KeyError
            If no node has this name.
        """
        return self._positions[name]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def children(self) -> tuple[Nodes, ...]:
        """Positions of the children of each node."""
        found: list[list[int]] = [[] for _ in self.names]
        for node, parent in enumerate(self.parents[1:], 1):
            found[parent].append(node)
        return tuple(np.array(each, dtype=np.intp) for each in found)

    @cached_property
    def depths(self) -> Nodes:
        """Edges between the root and each node."""
        depths = np.zeros(len(self), np.intp)
        for node, parent in enumerate(self.parents[1:], 1):
            depths[node] = depths[parent] + 1
        return depths

    @cached_property
    def leaves(self) -> Nodes:
        """Positions of the nodes without children, in order."""
        return np.flatnonzero([not len(each) for each in self.children])

    @property
    def leaf_names(self) -> list[str]:
        """Names of the nodes without children, in the order of `leaves`."""
        return [self.names[leaf] for leaf in self.leaves]

    @cached_property
    def inner(self) -> Nodes:
        """Positions of the nodes with children, in order: parents before children."""
        return np.flatnonzero([len(each) > 0 for each in self.children])

    @cached_property
    def membership(self) -> sp.csr_array:
        """Whether each leaf (rows, in the order of `leaves`) is each node or below it (columns), (leaves, nodes)."""
        rows, columns = [], []
        for row, leaf in enumerate(self.leaves):
            node = int(leaf)
            while node >= 0:
                rows.append(row)
                columns.append(node)
                node = self.parents[node]
        shape = len(self.leaves), len(self)
        return sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)

    def sums(self, counts: Any) -> Array:
        """Counts of all nodes, (n, nodes), from those of leaves, (n, leaves), in the order of `leaves`."""
        counts = counts if sp.issparse(counts) else np.asarray(counts, dtype=np.float64)
        found = counts @ self.membership
        return np.asarray(found.toarray() if sp.issparse(found) else found, dtype=np.float64)

    def without_only_children(self) -> Tree:
        """The tree in which no node has one child, unless it is all that there is.

        An only child has its parent's count, so that there is nothing to model. The lower one stays, but the root keeps its name.
        """
        top = 0
        while len(self.children[top]) == 1 and len(self.children[self.children[top][0]]):
            top = int(self.children[top][0])
        kept, edges = {top: self.names[0]}, []
        for node in range(top + 1, len(self)):
            parent = self.parents[node]
            while parent > top and parent not in kept:
                parent = self.parents[parent]
            if parent in kept and len(self.children[node]) != 1:
                kept[node] = self.names[node]
                edges.append((kept[parent], kept[node]))
        return Tree.from_edges(edges, self.leaf_names)


def _levels(root: str, children: dict[str, list[str]]) -> list[list[str]]:
    levels = [[root]]
    while below := [child for name in levels[-1] for child in children.get(name, ())]:
        levels.append(below)
    return levels


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
