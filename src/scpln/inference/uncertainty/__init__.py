"""How sure parameters are, and what that means for the cells: sandwiches, information of genes, and variances that follow."""

from ._build import covariance_directions, factor_sandwich, gene_space_sandwich
from ._errors import CoefficientErrors, ErrorMethod, WaldTests
from ._factor_errors import FactorSandwich
from ._gene_uncertainty import GeneUncertainty
from ._information import gene_information
from ._profile_curvature import ProfiledCells
from ._resampling import Refit, Replicates, Resampling, ResamplingName, refit_samples
from ._sandwich import Sandwich

__all__ = [
    "CoefficientErrors",
    "ErrorMethod",
    "FactorSandwich",
    "GeneUncertainty",
    "ProfiledCells",
    "Refit",
    "Replicates",
    "Resampling",
    "ResamplingName",
    "Sandwich",
    "WaldTests",
    "covariance_directions",
    "factor_sandwich",
    "gene_information",
    "gene_space_sandwich",
    "refit_samples",
]
