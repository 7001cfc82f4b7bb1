"""Cells under given genes and any likelihood, by quadrature."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, cast

from scpln.inference.expectations import expectations_of
from scpln.inference.newton._problem import CellProblem

from ._block import LikelihoodBlock, LogRateFeatures, block_size
from ._bound import elbo_likelihood
from ._infer import INFER_NODES, n_nodes, optimize_posteriors_likelihood

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array
    from scpln.inference.newton._genes import GeneParameters
    from scpln.inference.newton._problem import Sum
    from scpln.inference.newton._states import CellStates


class GeneralCells(CellProblem):
    """By quadrature."""

    def optimize_posteriors(self, genes: GeneParameters, cells: CellStates) -> None:
        """Move posteriors to their optimum, in place."""
        family, pool, batch_size = self.family, self.pool, self.batch_size
        optimize_posteriors_likelihood(
            self.data, genes, cells, family, self.likelihood, pool=pool, batch_size=batch_size
        )

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

    def sum_derivatives(
        self, function: Callable[[slice, Array, Array], Sum], genes: GeneParameters, cells: CellStates
    ) -> Sum:
        """Sum over blocks of cells of a function of the derivatives of their expected log-probabilities."""
        data = self.data
        features = LogRateFeatures.of(data.membership, genes, self.family, cells.dtype)
        rule = expectations_of(self.likelihood, n_nodes(self.likelihood, INFER_NODES), cells.dtype)
        size = block_size(data, rule, self.pool.n_threads, self.batch_size)

        def process_chunk(start: int, stop: int) -> Any:
            cell_block, total = LikelihoodBlock(data, rule), cast("Any", None)
            for first, last, rows in data.blocks(start, stop, size):
                cell_block.load(first, last, rows)
                cell_block.update_expectations(cells, features)
                expectation = cell_block.expectation
                part = function(slice(first, last), expectation.slope, expectation.weight)
                total = part if total is None else total + part
            return total

        return functools.reduce(operator.add, self.pool.map_chunks(process_chunk, data.n_cells, size))
