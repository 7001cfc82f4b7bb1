"""Cells under given genes: their posteriors and bounds, and derivatives of these by coefficients of the design."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.core import Array, CountData, Threads
    from scpln.module import Likelihood

    from ._families import GaussianFamily
    from ._genes import GeneParameters
    from ._states import CellStates


Sum = TypeVar("Sum")


@dataclass(frozen=True)
class Slopes:
    """Derivatives of the bound by the coefficients of the new columns, summed over cells."""

    gradient: Array  # Σ_i E[ℓ'_ij] x_i, (p, k)
    curvature: Array  # −Σ_i E[ℓ''_ij] x_i x_iᵀ, (p, k, k)

    def __add__(self, other: Slopes) -> Slopes:
        return Slopes(self.gradient + other.gradient, self.curvature + other.curvature)

    @classmethod
    def of(cls, slope: Array, weight: Array, design: Array) -> Slopes:
        """Those of a block of cells, from E[ℓ'] and −E[ℓ''], (n, p), and the new columns (n, k)."""
        products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
        k = design.shape[1]
        return cls(slope.T @ design, (np.maximum(weight, 0).T @ products).reshape(-1, k, k))


@dataclass(frozen=True)
class CellProblem(ABC):
    """Posteriors of cells for given genes, their bounds, and what these gain by other genes.

    This is all that query mapping, mixtures and standard errors need to know of a likelihood.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    family
        Family of their Gaussian posteriors.
    likelihood
        Distribution of the counts given their log-rates.
    pool
        Threads that share the cells.
    batch_size
        Cells read at a time; as many as suit the cache when None.
    """

    data: CountData
    family: GaussianFamily
    likelihood: Likelihood
    pool: Threads
    batch_size: int | None

    @abstractmethod
    def optimize_posteriors(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum for the given genes, in place."""

    @abstractmethod
    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell at posteriors N(m, V), in nats, (n,)."""

    @abstractmethod
    def sum_derivatives(
        self, function: Callable[[slice, Array, Array], Sum], genes: GeneParameters, cells: CellStates
    ) -> Sum:
        """Sum over blocks of cells of a function of the derivatives of their expected log-probabilities.

        What belongs to single cells, the function may put into arrays of its own: blocks do not overlap.

        Parameters
        ----------
        function
            Takes the cells of a block, and of each entry the derivatives of its expected log-probability by its
            log-rate: E[ℓ'_ij] and −E[ℓ''_ij], (cells, p). Both may be overwritten by the next block.
        genes, cells
            Where they are taken.
        """

    def slopes(self, genes: GeneParameters, cells: CellStates, columns: NDArray[np.bool_]) -> Slopes:
        """Derivatives of the sum of bounds by the coefficients of some columns of the design (d,), at given posteriors."""
        design = self.data.design[:, columns]

        def of_block(some: slice, slope: Array, weight: Array) -> Slopes:
            return Slopes.of(slope, weight, design[some])

        return self.sum_derivatives(of_block, genes, cells)
