"""The Poisson log-normal model in gene space."""

from ._covariances import Covariances
from ._pln import PLN
from ._size import check_size

__all__ = ["PLN", "Covariances", "check_size"]
