"""Parameters of local walks as tensors, by node of the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.inference.treewalk import LocalWalk, Node, Split

if TYPE_CHECKING:
    from scpln.core import Tree


class LocalWalkModule(torch.nn.Module):
    """What is saved of `LocalWalk`.

    Parameters
    ----------
    tree
        Without only children.
    n_columns
        Columns of the design.
    """

    coefficients: torch.Tensor  #: of log-concentrations, (d, V)
    preferences: torch.Tensor  #: log-weights of the order, (V,)
    rest: torch.Tensor  #: (V,)
    on_child: torch.Tensor  #: of all pairs of siblings, node by node
    on_rest: torch.Tensor
    rank: torch.Tensor  #: place in the order of siblings, where that is known, or −1, (V,)

    def __init__(self, tree: Tree, n_columns: int) -> None:
        super().__init__()
        self.tree = tree
        n_pairs = sum(len(tree.children[v]) ** 2 for v in tree.inner)
        shapes = {"coefficients": (n_columns, len(tree)), "preferences": (len(tree),), "rest": (len(tree),)}
        shapes |= {"on_child": (n_pairs,), "on_rest": (n_pairs,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("rank", torch.full((len(tree),), -1))

    @classmethod
    def of(cls, walk: LocalWalk) -> LocalWalkModule:
        """The parameters of a walk."""
        module = cls(walk.tree, next(iter(walk.nodes.values())).split.coefficients.shape[0])
        start = 0
        for v, node in walk.nodes.items():
            children, split = torch.from_numpy(walk.tree.children[v]), node.split
            module.coefficients[:, children] = torch.from_numpy(split.coefficients)
            module.preferences[children] = torch.from_numpy(split.preferences)
            module.rest[children] = torch.from_numpy(split.rest)
            end = start + len(children) ** 2
            module.on_child[start:end] = torch.from_numpy(split.on_child.ravel())
            module.on_rest[start:end] = torch.from_numpy(split.on_rest.ravel())
            if node.order is not None:
                module.rank[children[list(node.order)]] = torch.arange(len(children))
            start = end
        return module

    def walk(self) -> LocalWalk:
        """The walk with these parameters."""
        state = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        nodes, start = {}, 0
        for v in self.tree.inner.tolist():
            children = self.tree.children[v]
            c = len(children)
            pair = slice(start, start + c**2)
            split = Split(
                state["coefficients"][:, children],
                state["preferences"][children],
                state["rest"][children],
                state["on_child"][pair].reshape(c, c),
                state["on_rest"][pair].reshape(c, c),
            )
            rank = state["rank"][children]
            nodes[v] = Node(split, None if (rank < 0).any() else tuple(np.argsort(rank).tolist()))
            start += c**2
        return LocalWalk(self.tree, nodes)
