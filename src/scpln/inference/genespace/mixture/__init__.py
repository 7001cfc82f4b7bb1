"""Mixtures of Poisson log-normal models in gene space: components with means and covariances of their own."""

from ._criteria import Criteria
from ._fit import fit_pln_mixture, infer_pln_mixture
from ._groups import fit_pln_groups
from ._parameters import MixtureParameters
from ._result import MixtureCells, PLNMixtureResult

__all__ = [
    "Criteria",
    "MixtureCells",
    "MixtureParameters",
    "PLNMixtureResult",
    "fit_pln_groups",
    "fit_pln_mixture",
    "infer_pln_mixture",
]
