"""Models of counts on trees as one call."""

from ._tree_walk import tree_walk

__all__ = ["tree_walk"]
