"""Models of counts on trees as one call."""

from ._pln_tree import pln_tree
from ._tree_walk import tree_walk

__all__ = ["pln_tree", "tree_walk"]
