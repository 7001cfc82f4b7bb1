"""Cells under given genes: their posteriors and bounds, and slopes of these by coefficients of the design."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._block import Block, GeneFeatures
from ._bound import elbo
from ._expectations import expectations_of
from ._infer import settle
from ._likelihood_block import LikelihoodBlock, LogRateFeatures, block_size
from ._likelihood_bound import elbo_likelihood
from ._likelihood_infer import INFER_NODES, n_nodes, settle_likelihood

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.module import Likelihood

    from ._arrays import Array
    from ._cells import CellStates
    from ._data import CountData
    from ._gaussian import GaussianFamily
    from ._genes import GeneParameters
    from ._parallel import Threads


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
class CellLaw(ABC):
    """Posteriors of cells for given genes, their bound, and what it gains by new coefficients."""

    data: CountData
    family: GaussianFamily
    likelihood: Likelihood
    pool: Threads
    batch_size: int | None

    @abstractmethod
    def settle(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""

    @abstractmethod
    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell, (n,)."""

    @abstractmethod
    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> Slopes:
        """Derivatives at the current posteriors."""


class PoissonLaw(CellLaw):
    """In closed form."""

    def settle(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""
        settle(self.data, genes, cells, self.family, pool=self.pool, batch_size=self.batch_size)

    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell, (n,)."""
        b, c, n_threads = genes.coefficients, genes.loadings, self.pool.n_threads
        return elbo(self.data, b, c, mean, covariance, batch_size=self.batch_size, n_threads=n_threads)

    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> Slopes:
        """Derivatives at the current posteriors."""
        data = self.data
        features = GeneFeatures.of(data.membership, genes.coefficients, genes.loadings, self.family, cells.dtype)
        size = data.block_size(self.batch_size)

        def share(start: int, stop: int) -> Slopes:
            work, total = Block(size, data, self.family, cells.dtype), Slopes.none(data.n_genes, int(new.sum()))
            for begin, end, rows in data.blocks(start, stop, size):
                work.load(begin, end, rows)
                work.arrive(cells, features)
                total += Slopes.of(work.counts - work.rates, work.rates, data.design[begin:end, new])
            return total

        return Slopes.sum(self.pool.map_shares(share, data.n_cells, size))


class AnyLaw(CellLaw):
    """By quadrature."""

    def settle(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""
        family, pool, batch_size = self.family, self.pool, self.batch_size
        settle_likelihood(self.data, genes, cells, family, self.likelihood, pool=pool, batch_size=batch_size)

    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell, (n,), with the nodes that its posterior was found with."""
        return elbo_likelihood(
            self.data,
            genes.coefficients,
            genes.loadings,
            self.likelihood,
            mean,
            covariance,
            n_nodes=n_nodes(self.likelihood, INFER_NODES),
            batch_size=self.batch_size,
            n_threads=self.pool.n_threads,
        )

    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> Slopes:
        """Derivatives at the current posteriors."""
        data = self.data
        features = LogRateFeatures.of(data.membership, genes.coefficients, genes.loadings, self.family, cells.dtype)
        rule = expectations_of(self.likelihood, n_nodes(self.likelihood, INFER_NODES), cells.dtype)
        size = block_size(data, rule, self.pool.n_threads, self.batch_size)

        def share(start: int, stop: int) -> Slopes:
            work, total = LikelihoodBlock(data, rule), Slopes.none(data.n_genes, int(new.sum()))
            for begin, end, rows in data.blocks(start, stop, size):
                work.load(begin, end, rows)
                work.arrive(cells, features)
                expectation = work.expectation
                total += Slopes.of(expectation.slope, expectation.weight, data.design[begin:end, new])
            return total

        return Slopes.sum(self.pool.map_shares(share, data.n_cells, size))
