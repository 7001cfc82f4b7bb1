"""What estimators can do besides training: one ability a file, which a model class inherits if it has it."""

from scpln.model.base import UNRELIABLE

from ._bounds import Bounds, Elbo
from ._coefficients import Coefficients
from ._differential import Differential
from ._exact import ExactSampling
from ._latent import KeptPosteriors, LatentModel
from ._likelihood_parameters import LikelihoodParameters
from ._loadings import Loadings
from ._predictive import Predictive
from ._prior_predictive import PriorPredictive
from ._query import CELLS_OF_DENSITY, NOTHING_NEW, QueryMapping, as_prior
from ._terms import conditions
from .clusters import Clusters, effective_number
from .group_tests import GroupTest, GroupTests, Plan
from .uncertainty import Resampled, ResampledParameters, StandardErrors, Uncertainty

__all__ = [
    "CELLS_OF_DENSITY",
    "NOTHING_NEW",
    "UNRELIABLE",
    "Bounds",
    "Clusters",
    "Coefficients",
    "Differential",
    "Elbo",
    "ExactSampling",
    "GroupTest",
    "GroupTests",
    "KeptPosteriors",
    "LatentModel",
    "LikelihoodParameters",
    "Loadings",
    "Plan",
    "Predictive",
    "PriorPredictive",
    "QueryMapping",
    "Resampled",
    "ResampledParameters",
    "StandardErrors",
    "Uncertainty",
    "as_prior",
    "conditions",
    "effective_number",
]
