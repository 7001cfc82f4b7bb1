"""What estimators can do besides training: one ability a file, which a model class inherits if it has it."""

from ._bounds import UNRELIABLE, Bounds
from ._clusters import Clusters, effective_number
from ._differential import Differential
from ._exact import ExactSampling
from ._loadings import Loadings
from ._predictive import Predictive
from ._query import NOTHING_NEW, QueryMapping
from ._terms import conditions

__all__ = [
    "NOTHING_NEW",
    "UNRELIABLE",
    "Bounds",
    "Clusters",
    "Differential",
    "ExactSampling",
    "Loadings",
    "Predictive",
    "QueryMapping",
    "conditions",
    "effective_number",
]
