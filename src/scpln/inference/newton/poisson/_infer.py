"""Posteriors of cells under given parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import CountData, Threads, threads, working_precision
from scpln.core import _linalg as linalg
from scpln.inference.newton._families import FAMILIES, GaussianFamily, GaussianFamilyName
from scpln.inference.newton._genes import GeneParameters
from scpln.inference.newton._retry import Retry, warn_stuck
from scpln.inference.newton._states import CellStates, start_variance

from ._block import GeneFeatures, RateBlock
from ._bound import elbo
from ._cells import move_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, DType
    from scpln.inference.newton._retry import OnStuck

#: Most steps for a block of cells; a dozen is usual.
MAX_STEPS = 100


def infer(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    *,
    posterior: GaussianFamilyName = "fullrank",
    rotation: Array | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
    on_stuck: OnStuck = warn_stuck,
) -> tuple[Array, Array]:
    """Optimal Gaussian posteriors of cells, with B and C fixed.

    The bound of each cell is concave in its mean and covariance, so that the optimum is unique and does not depend on the other cells.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    coefficients, loadings
        B (p, d) and C (p, q).
    posterior
        `"fullrank"` or `"meanfield"`.
    rotation
        For a mean-field posterior, W (q, q): the axes in which it is diagonal are z @ Wᵀ; z itself when None.
    batch_size
        Cells read at a time.
    n_threads
        Threads; all available ones when None.
    on_stuck
        Called with the positions of cells that did not converge and the number of all; by default, a warning.

    Returns
    -------
    Means (n, q), and covariances as packed lower triangles (n, q(q+1)/2), row by row.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scpln.inference import CountData, infer
    >>> data = CountData(sp.csr_matrix((1, 3)), np.zeros(1), np.ones((1, 1)))
    >>> mean, covariance = infer(data, np.full((3, 1), -20.0), np.ones((3, 1)))
    >>> mean.round(3), covariance.round(3)  # no counts, none expected: the prior
    (array([[-0.]], dtype=float32), array([[1.]], dtype=float32))
    """
    q = loadings.shape[1]
    family = FAMILIES[posterior](q)
    axes = np.eye(q) if rotation is None or posterior == "fullrank" else np.asarray(rotation, np.float64)
    genes = GeneParameters(np.asarray(coefficients, np.float64), loadings @ axes.T)
    with threads(n_threads) as pool:
        cells = CellStates.at(
            np.zeros((data.n_cells, q)), family, start_variance(genes.loadings), _precision(data, pool, batch_size)
        )
        stuck = optimize_posteriors(data, genes, cells, family, pool=pool, batch_size=batch_size)
    on_stuck(stuck, data.n_cells)
    covariance = family.covariance(cells.variance) @ linalg.congruence(axes.T).astype(cells.dtype)
    return cells.mean @ axes.astype(cells.dtype), linalg.nearest_definite(covariance)


def optimize_posteriors(
    data: CountData,
    genes: GeneParameters,
    cells: CellStates,
    family: GaussianFamily,
    *,
    pool: Threads,
    batch_size: int | None,
) -> NDArray[np.intp]:
    """Move posteriors to their optimum for the given parameters, in place; return the cells that did not converge.

    Those that do not in their own precision are tried again in float64.
    """

    def optimize(part: CountData, states: CellStates) -> NDArray[np.intp]:
        return _optimize(part, genes, states, family, pool=pool, batch_size=batch_size)

    def bound(part: CountData, mean: Array, covariance: Array) -> Array:
        b, c, n_threads = genes.coefficients, genes.loadings, pool.n_threads
        return elbo(part, b, c, mean, covariance, batch_size=batch_size, n_threads=n_threads)

    return Retry(data, family, optimize, bound, start_variance(genes.loadings), batch_size).run(
        cells, optimize(data, cells)
    )


def _optimize(
    data: CountData,
    genes: GeneParameters,
    cells: CellStates,
    family: GaussianFamily,
    *,
    pool: Threads,
    batch_size: int | None,
) -> NDArray[np.intp]:
    """The same in one precision."""
    features = GeneFeatures.of(data.membership, genes, family, cells.dtype)
    block = data.block_size(batch_size)

    def process_chunk(start: int, stop: int) -> list[NDArray[np.intp]]:
        cell_block, stuck = RateBlock(block, data, family, cells.dtype), []
        for begin, end, rows in data.blocks(start, stop, block):
            cell_block.load(begin, end, rows)
            cell_block.update_expectations(cells, features)
            stuck.append(begin + move_cells(cell_block, cells, features, family, MAX_STEPS))
        return stuck

    return np.concatenate([part for parts in pool.map_chunks(process_chunk, data.n_cells, block) for part in parts])


def _precision(data: CountData, pool: Threads, batch_size: int | None) -> DType:
    block = data.block_size(batch_size)

    def process_chunk(start: int, stop: int) -> float:
        return max(float(rows.sum(1, dtype=np.float64).max()) for *_, rows in data.blocks(start, stop, block))

    return working_precision(np.array(pool.map_chunks(process_chunk, data.n_cells, block)))
