"""The Poisson log-normal model in gene space."""

from ._covariances import Covariances
from ._factors import checked_factors, factor_table
from ._inference import warn_of_weights
from ._options import MOST_PRECISE, training_options
from ._pln import PLN
from ._size import check_size

__all__ = [
    "MOST_PRECISE",
    "PLN",
    "Covariances",
    "check_size",
    "checked_factors",
    "factor_table",
    "training_options",
    "warn_of_weights",
]
