"""Trees of counts."""

from ._tree import tree

__all__ = ["tree"]
