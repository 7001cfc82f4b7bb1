"""Cells under given genes: their posteriors and bounds, and derivatives of these by coefficients of the design."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData, Threads
    from scpln.module import Likelihood

    from ._families import GaussianFamily
    from ._genes import GeneParameters
    from ._states import CellStates


@dataclass(frozen=True)
class Slopes:
    """Derivatives of the bound by the coefficients of the new columns, summed over cells."""

    gradient: Array  # Σ_i E[ℓ'_ij] x_i, (p, k)
    curvature: Array  # −Σ_i E[ℓ''_ij] x_i x_iᵀ, (p, k, k)

    def __add__(self, other: Slopes) -> Slopes:
        return Slopes(self.gradient + other.gradient, self.curvature + other.curvature)

    @classmethod
    def none(cls, n_genes: int, n_columns: int) -> Slopes:
        """Those of no cells."""
        return cls(np.zeros((n_genes, n_columns)), np.zeros((n_genes, n_columns, n_columns)))

    @classmethod
    def sum(cls, several: list[Slopes]) -> Slopes:
        """Those of several parts of the cells together."""
        return sum(several[1:], several[0])

    @classmethod
    def of(cls, slope: Array, weight: Array, design: Array) -> Slopes:
        """Those of a block of cells, from E[ℓ'] and −E[ℓ''], (n, p), and the new columns (n, k)."""
        products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
        k = design.shape[1]
        return cls(slope.T @ design, (np.maximum(weight, 0).T @ products).reshape(-1, k, k))


@dataclass(frozen=True)
class CellProblem(ABC):
    """Posteriors of cells for given genes, their bound, and what it gains by new coefficients."""

    data: CountData
    family: GaussianFamily
    likelihood: Likelihood
    pool: Threads
    batch_size: int | None

    @abstractmethod
    def optimize_posteriors(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""

    @abstractmethod
    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell, (n,)."""

    @abstractmethod
    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> Slopes:
        """Derivatives at the current posteriors."""
