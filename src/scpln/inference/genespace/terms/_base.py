"""What the solver in gene space asks of a likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.module import Likelihood

    Cells: TypeAlias = slice | NDArray[np.intp]


@dataclass
class Expected:
    """Expectations over log-rates N(m_ij, v_ij) of some cells, with ℓ = log p(y_ij | o_ij + z_ij)."""

    value: Array  # Σ_j E[ℓ], (n,)
    slope: Array  # E[ℓ'], (n, p): the derivative by m
    curvature: Array  # −E[ℓ''], (n, p): minus twice the derivative by v; negative somewhere, if ℓ is not concave


class Terms(Protocol):
    r"""The bound's terms of the counts, at means and variances of log-rates without offsets, (n, p) each.

    Each depends on its own marginal alone, so that the best V is :math:`(\Omega + \text{diag}\, w)^{-1}` with
    :math:`w = -2\, \partial E[\ell] / \partial v = -E[\ell'']`.

    Parameters of the likelihood are a row of coordinates, as those of a covariance are; none for Poisson counts.
    """

    @property
    def coordinates(self) -> Array:
        """Of the likelihood's parameters, (k,)."""

    @property
    def likelihood(self) -> Likelihood:
        """With the parameters as they are."""

    @property
    def inflation(self) -> Array | None:
        """Coefficients of the logit of zero inflation, (p, d), where it depends on the design."""

    def expected(self, cells: Cells, mean: Array, variance: Array) -> Expected:
        """Expectations of some cells."""

    def steepness(self, cells: Cells) -> Array | float:
        """By how much the logarithm of the curvature rises with the mean, between −1 and 1, where it was evaluated last.

        It says where a step leads, and needs not be exact.
        """

    def start(self, mean: Array) -> None:
        """Start the likelihood's parameters where counts have these log-rates, (n, p)."""

    def move(self, coordinates: Array) -> None:
        """Take the likelihood's parameters from coordinates."""

    def slope(self, cells: slice, mean: Array, variance: Array) -> Array:
        """Slope of Σ_ij E[ℓ] over consecutive cells by the coordinates."""

    def precondition(self, slope: Array) -> Array:
        """About the inverse curvature times a slope by the coordinates."""

    def learn_curvature(self, mean: Array, variance: Array, pool: Threads) -> None:
        """Renew what `precondition` knows, if the parameters have changed since."""
