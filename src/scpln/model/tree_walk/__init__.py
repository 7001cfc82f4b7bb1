"""The variational tree walk: counts on a tree, split in hidden orders."""

from ._tree_walk import TreeWalk

__all__ = ["TreeWalk"]
