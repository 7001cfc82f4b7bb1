"""The Poisson log-normal model of counts on a tree."""

from ._pln_tree import PLNTree

__all__ = ["PLNTree"]
