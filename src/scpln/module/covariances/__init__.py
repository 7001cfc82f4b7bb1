"""Covariances Σ of latent states in gene space: what alternation over posteriors and parameters needs to know of them."""

from ._base import Covariance
from ._basis import Basis
from ._chain import Chain
from ._diagonal import Diagonal
from ._factor import Factor
from ._fixed import Fixed
from ._full import Full
from ._kernel import Kernel
from ._sparse import SparsePrecision
from ._spherical import Spherical

COVARIANCES: dict[str, type[Covariance]] = {
    "full": Full,
    "diagonal": Diagonal,
    "spherical": Spherical,
    "fixed": Fixed,
    "kernel": Kernel,
    "basis": Basis,
    "factor": Factor,
}
"""Covariances by name. A new one is a class in a file of its own and a row here; the tests of all are then its tests too."""

__all__ = [
    "COVARIANCES",
    "Basis",
    "Chain",
    "Covariance",
    "Diagonal",
    "Factor",
    "Fixed",
    "Full",
    "Kernel",
    "SparsePrecision",
    "Spherical",
]
