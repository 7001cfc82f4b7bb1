"""Counts on a tree, split along a walk: at each node over all orders of its children, or over the whole tree."""

from ._data import TreeCounts
from ._fit_global import GlobalFit, fit_global
from ._fit_node import Precisions
from ._global import GlobalWalk
from ._lattice import MOST_CHILDREN, Lattice
from ._local import LocalFit, LocalWalk, fit_local
from ._node import Node, NodeCounts
from ._split import Split

__all__ = [
    "MOST_CHILDREN",
    "GlobalFit",
    "GlobalWalk",
    "Lattice",
    "LocalFit",
    "LocalWalk",
    "Node",
    "NodeCounts",
    "Precisions",
    "Split",
    "TreeCounts",
    "fit_global",
    "fit_local",
]
