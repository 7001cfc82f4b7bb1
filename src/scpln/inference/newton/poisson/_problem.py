"""Cells under given genes and the Poisson likelihood, in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpln.inference.newton._problem import CellProblem, Slopes

from ._block import GeneFeatures, RateBlock
from ._bound import elbo
from ._infer import optimize_posteriors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.newton._genes import GeneParameters
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

    def slopes(self, genes: GeneParameters, cells: CellStates, new: NDArray[np.bool_]) -> Slopes:
        """Derivatives at the current posteriors."""
        data = self.data
        features = GeneFeatures.of(data.membership, genes.coefficients, genes.loadings, self.family, cells.dtype)
        size = data.block_size(self.batch_size)

        def process_chunk(start: int, stop: int) -> Slopes:
            cell_block, total = (
                RateBlock(size, data, self.family, cells.dtype),
                Slopes.none(data.n_genes, int(new.sum())),
            )
            for begin, end, rows in data.blocks(start, stop, size):
                cell_block.load(begin, end, rows)
                cell_block.update_expectations(cells, features)
                total += Slopes.of(cell_block.counts - cell_block.rates, cell_block.rates, data.design[begin:end, new])
            return total

        return Slopes.sum(self.pool.map_chunks(process_chunk, data.n_cells, size))
