"""Cells under given genes and the Poisson likelihood, in closed form."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, cast

from scpln.inference.newton._problem import CellProblem

from ._block import GeneFeatures, RateBlock
from ._bound import elbo
from ._infer import optimize_posteriors

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array
    from scpln.inference.newton._genes import GeneParameters
    from scpln.inference.newton._problem import Sum
    from scpln.inference.newton._states import CellStates


class PoissonCells(CellProblem):
    """In closed form."""

    def optimize_posteriors(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""
        optimize_posteriors(self.data, genes, cells, self.family, pool=self.pool, batch_size=self.batch_size)

    def bound(self, genes: GeneParameters, mean: Array, covariance: Array) -> Array:
        """Bound of each cell, (n,)."""
        b, c, n_threads = genes.coefficients, genes.loadings, self.pool.n_threads
        return elbo(self.data, b, c, mean, covariance, batch_size=self.batch_size, n_threads=n_threads)

    def sum_derivatives(
        self, function: Callable[[slice, Array, Array], Sum], genes: GeneParameters, cells: CellStates
    ) -> Sum:
        """Sum over blocks of cells of a function of the derivatives of their expected log-probabilities."""
        data = self.data
        features = GeneFeatures.of(data.membership, genes, self.family, cells.dtype)
        size = data.block_size(self.batch_size)

        def process_chunk(start: int, stop: int) -> Any:
            cell_block, total = RateBlock(size, data, self.family, cells.dtype), cast("Any", None)
            for first, last, rows in data.blocks(start, stop, size):
                cell_block.load(first, last, rows)
                cell_block.update_expectations(cells, features)
                part = function(slice(first, last), cell_block.counts - cell_block.rates, cell_block.rates)
                total = part if total is None else total + part
            return total

        return functools.reduce(operator.add, self.pool.map_chunks(process_chunk, data.n_cells, size))
