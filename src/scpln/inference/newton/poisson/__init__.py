"""Newton's method for the Poisson likelihood, in closed form."""

from ._block import Block, GeneFeatures
from ._bound import elbo
from ._cells import move_cells, precisions
from ._fit import fit
from ._infer import MAX_STEPS, START_VARIANCE, infer, settle
from ._problem import PoissonLaw
from ._solver import Solver
from ._start import Totals, principal_scores, regress
from ._statistics import GeneStatistics

__all__ = [
    "MAX_STEPS",
    "START_VARIANCE",
    "Block",
    "GeneFeatures",
    "GeneStatistics",
    "PoissonLaw",
    "Solver",
    "Totals",
    "elbo",
    "fit",
    "infer",
    "move_cells",
    "precisions",
    "principal_scores",
    "regress",
    "settle",
]
