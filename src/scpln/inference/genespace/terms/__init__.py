"""Expected log-likelihoods of counts under Gaussian log-rates in gene space: in closed form where there is one, otherwise by quadrature."""

from ._base import Expected, Terms
from ._by_cell import inflation_of_cells
from ._choice import terms_of
from ._inflation import GATE, ZeroInflation
from ._poisson import PoissonTerms
from ._quadrature import QuadratureTerms

__all__ = [
    "GATE",
    "Expected",
    "PoissonTerms",
    "QuadratureTerms",
    "Terms",
    "ZeroInflation",
    "inflation_of_cells",
    "terms_of",
]
