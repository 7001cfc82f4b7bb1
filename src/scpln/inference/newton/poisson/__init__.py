"""Newton's method for the Poisson likelihood, in closed form."""

from ._block import GeneFeatures, RateBlock
from ._bound import elbo
from ._cells import move_cells, precisions
from ._fit import fit
from ._infer import MAX_STEPS, infer, optimize_posteriors
from ._problem import PoissonCells
from ._solver import Solver
from ._start import Totals, principal_scores, regress
from ._statistics import GeneStatistics

__all__ = [
    "MAX_STEPS",
    "GeneFeatures",
    "GeneStatistics",
    "PoissonCells",
    "RateBlock",
    "Solver",
    "Totals",
    "elbo",
    "fit",
    "infer",
    "move_cells",
    "optimize_posteriors",
    "precisions",
    "principal_scores",
    "regress",
]
