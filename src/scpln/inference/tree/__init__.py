"""The Poisson log-normal model of counts on a tree."""

from ._fit import SHRINKAGE, TreeResult, fit_pln_tree
from ._infer import TreeStates, bound_pln_tree, infer_pln_tree

__all__ = ["SHRINKAGE", "TreeResult", "TreeStates", "bound_pln_tree", "fit_pln_tree", "infer_pln_tree"]
