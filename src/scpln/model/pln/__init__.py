"""The Poisson log-normal model in gene space."""

from ._covariances import Covariances
from ._options import MOST_PRECISE, training_options
from ._pln import PLN
from ._size import check_size

__all__ = ["MOST_PRECISE", "PLN", "Covariances", "check_size", "training_options"]
