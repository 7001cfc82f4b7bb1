"""Trees over the columns of a table, from wherever they come."""

from ._lineages import SEPARATOR
from ._newick import parse_newick
from ._read import TreeSource, read_tree

__all__ = ["SEPARATOR", "TreeSource", "parse_newick", "read_tree"]
