"""Cells under given genes and any likelihood, by quadrature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpln.inference.expectations import expectations_of
from scpln.inference.newton._problem import CellProblem, Slopes

from ._block import LikelihoodBlock, LogRateFeatures, block_size
from ._bound import elbo_likelihood
from ._infer import INFER_NODES, n_nodes, optimize_posteriors_likelihood

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.newton._genes import GeneParameters
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

    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> Slopes:
        """Derivatives at the current posteriors."""
        data = self.data
        features = LogRateFeatures.of(data.membership, genes.coefficients, genes.loadings, self.family, cells.dtype)
        rule = expectations_of(self.likelihood, n_nodes(self.likelihood, INFER_NODES), cells.dtype)
        size = block_size(data, rule, self.pool.n_threads, self.batch_size)

        def process_chunk(start: int, stop: int) -> Slopes:
            cell_block, total = LikelihoodBlock(data, rule), Slopes.none(data.n_genes, int(new.sum()))
            for begin, end, rows in data.blocks(start, stop, size):
                cell_block.load(begin, end, rows)
                cell_block.update_expectations(cells, features)
                expectation = cell_block.expectation
                total += Slopes.of(expectation.slope, expectation.weight, data.design[begin:end, new])
            return total

        return Slopes.sum(self.pool.map_chunks(process_chunk, data.n_cells, size))
