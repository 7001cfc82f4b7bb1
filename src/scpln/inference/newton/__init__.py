"""Newton's method for Gaussian posteriors of cells and parameters of genes: what its solvers have in common."""

from ._convergence import finite_mean, judged
from ._families import FAMILIES, GaussianFamily, GaussianFamilyName
from ._genes import GeneModel, GeneParameters
from ._problem import CellProblem
from ._result import FitResult
from ._retry import describe_stuck
from ._rotation import identified_rotation
from ._stages import COARSE_CELLS, COARSE_RATIO
from ._states import CellStates, start_variance
from .prior import GenePrior, GenePriorName

__all__ = [
    "COARSE_CELLS",
    "COARSE_RATIO",
    "FAMILIES",
    "CellProblem",
    "CellStates",
    "FitResult",
    "GaussianFamily",
    "GaussianFamilyName",
    "GeneModel",
    "GeneParameters",
    "GenePrior",
    "GenePriorName",
    "describe_stuck",
    "finite_mean",
    "identified_rotation",
    "judged",
    "start_variance",
]
