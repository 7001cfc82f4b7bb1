"""Posteriors of cells under given parameters and any likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import Threads, threads, working_precision
from scpln.core import _linalg as linalg
from scpln.inference.expectations import expectations_of
from scpln.inference.newton._families import FAMILIES, GaussianFamily, GaussianFamilyName
from scpln.inference.newton._genes import GeneParameters
from scpln.inference.newton._retry import Retry, warn_stuck
from scpln.inference.newton._states import CellStates, start_variance
from scpln.inference.newton.poisson import MAX_STEPS
from scpln.train import torch_threads

from ._block import LikelihoodBlock, LogRateFeatures, block_size
from ._bound import elbo_likelihood
from ._cells import block_precisions, move_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData, DType
    from scpln.inference.newton._retry import OnStuck
    from scpln.module import Likelihood

    from ._genes import LikelihoodGenes

#: Nodes for posteriors that are reported.
INFER_NODES = 12
#: Nodes for a likelihood that is quadratic in the log-rate, where two are exact.
QUADRATIC_NODES = 2


def infer_likelihood(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    likelihood: Likelihood,
    *,
    posterior: GaussianFamilyName = "fullrank",
    rotation: Array | None = None,
    start: tuple[Array, Array] | None = None,
    batch_size: int | None = None,
    n_threads: int | None = None,
    on_stuck: OnStuck = warn_stuck,
) -> tuple[Array, Array]:
    """Optimal Gaussian posteriors of cells under any likelihood, with all parameters fixed.

    For a log-concave likelihood the bound of each cell is concave in its mean and a root of its covariance, so that the
    optimum does not depend on where the search starts. It never depends on the other cells.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    coefficients, loadings
        B (p, d) and C (p, q).
    likelihood
        Distribution of the counts given their log-rates.
    posterior
        `"fullrank"` or `"meanfield"`.
    rotation
        For a mean-field posterior, W (q, q): the axes in which it is diagonal are z @ Wᵀ; z itself when None.
    start
        Means (n, q) and packed covariances (n, q(q+1)/2) that the search starts from; near the prior when None.
    batch_size
        Cells read at a time, at most.
    n_threads
        Threads; all available ones when None.
    on_stuck
        As in `infer`.

    Returns
    -------
    Means (n, q), and covariances as packed lower triangles (n, q(q+1)/2), row by row.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scpln.inference import CountData, infer_likelihood
    >>> from scpln.module import make_likelihood
    >>> data = CountData(sp.csr_matrix((1, 3)), np.zeros(1), np.ones((1, 1)))
    >>> mean, covariance = infer_likelihood(data, np.full((3, 1), -20.0), np.ones((3, 1)), make_likelihood("nb", 3))
    >>> bool(abs(mean).max() < 1e-3), covariance.round(3)  # no counts, none expected: the prior
    (True, array([[1.]], dtype=float32))
    """
    q = loadings.shape[1]
    family = FAMILIES[posterior](q)
    axes = np.eye(q) if rotation is None or posterior == "fullrank" else np.asarray(rotation, np.float64)
    genes = GeneParameters(np.asarray(coefficients, np.float64), loadings @ axes.T)
    with threads(n_threads) as pool, torch_threads(1):
        dtype = precision(data, likelihood, pool)
        if start is None:
            cells = CellStates.at(np.zeros((data.n_cells, q)), family, start_variance(genes.loadings), dtype)
        else:
            cells = cell_states(*start, axes, family, dtype)
        stuck = optimize_posteriors_likelihood(data, genes, cells, family, likelihood, pool=pool, batch_size=batch_size)
    on_stuck(stuck, data.n_cells)
    return posteriors(cells, family, axes)


def optimize_posteriors_likelihood(
    data: CountData,
    genes: GeneParameters,
    cells: CellStates,
    family: GaussianFamily,
    likelihood: Likelihood,
    *,
    pool: Threads,
    batch_size: int | None,
) -> NDArray[np.intp]:
    """Move posteriors to their optimum for the given parameters, in place; return the cells that did not converge.

    Those that do not in their own precision are tried again in float64.
    """

    def optimize(part: CountData, states: CellStates) -> NDArray[np.intp]:
        return _optimize(part, genes, states, family, likelihood, pool=pool, batch_size=batch_size)

    def bound(part: CountData, mean: Array, covariance: Array) -> Array:
        b, c = genes.coefficients, genes.loadings
        return elbo_likelihood(
            part, b, c, likelihood, mean, covariance, check=False, batch_size=batch_size, n_threads=pool.n_threads
        )

    return Retry(data, family, optimize, bound, start_variance(genes.loadings), batch_size).run(
        cells, optimize(data, cells)
    )


def _optimize(
    data: CountData,
    genes: GeneParameters,
    cells: CellStates,
    family: GaussianFamily,
    likelihood: Likelihood,
    *,
    pool: Threads,
    batch_size: int | None,
) -> NDArray[np.intp]:
    """The same in one precision."""
    features = LogRateFeatures.of(data.membership, genes, family, cells.dtype)
    rule = expectations_of(likelihood, n_nodes(likelihood, INFER_NODES), cells.dtype)
    block = block_size(data, rule, pool.n_threads, batch_size)

    def process_chunk(start: int, stop: int) -> list[NDArray[np.intp]]:
        cell_block, stuck = LikelihoodBlock(data, rule), []
        for begin, end, rows in data.blocks(start, stop, block):
            cell_block.load(begin, end, rows)
            cell_block.update_expectations(cells, features, check=True)
            stuck.append(move_cells(cell_block, cells, features, family, MAX_STEPS))
        return stuck

    return np.concatenate([part for parts in pool.map_chunks(process_chunk, data.n_cells, block) for part in parts])


def precisions(
    data: CountData, genes: LikelihoodGenes, cells: CellStates, family: GaussianFamily, likelihood: Likelihood
) -> Array:
    """Precisions H_i (q, q, n) of the best posteriors of any covariance for the current log-rates of a few cells."""
    rule = expectations_of(likelihood, n_nodes(likelihood, INFER_NODES), cells.dtype)
    rule.parameters = genes.parameters
    linear = genes.linear
    features = LogRateFeatures.of(data.membership, linear, family, cells.dtype)
    block = LikelihoodBlock(data, rule)
    block.load(0, data.n_cells, data.rows(0, data.n_cells))
    block.update_expectations(cells, features)
    return block_precisions(block, features)


def cell_states(mean: Array, covariance: Array, axes: Array, family: GaussianFamily, dtype: DType) -> CellStates:
    """States in the coordinates z Wᵀ, with W = `axes`, at given posteriors or the nearest that the family has."""
    covariance = linalg.nearest_definite(covariance.astype(np.float64) @ linalg.congruence(axes))
    packed = family.pack(covariance)
    log_det = linalg.invert(linalg.unpack(family.covariance(packed), family.n_latent))
    mean = mean @ axes.T
    return CellStates(mean.astype(dtype), packed.astype(dtype), log_det.astype(dtype), np.ones(len(mean), dtype))


def posteriors(cells: CellStates, family: GaussianFamily, axes: Array) -> tuple[Array, Array]:
    """Means and packed covariances in the coordinates z W, with W = `axes`."""
    covariance = family.covariance(cells.variance) @ linalg.congruence(axes.T).astype(cells.dtype)
    return cells.mean @ axes.astype(cells.dtype), linalg.nearest_definite(covariance)


def precision(data: CountData, likelihood: Likelihood, pool: Threads) -> DType:
    """Precision that the data need: float32 is twice as fast, but too coarse for very deep cells."""
    if not likelihood.is_count:
        return np.float64
    block = data.block_size()

    def process_chunk(start: int, stop: int) -> float:
        return max(float(rows.sum(1, dtype=np.float64).max()) for *_, rows in data.blocks(start, stop, block))

    return working_precision(np.array(pool.map_chunks(process_chunk, data.n_cells, block)))


def n_nodes(likelihood: Likelihood, wanted: int) -> int:
    """Nodes, `wanted` ones unless fewer are exact."""
    return wanted if likelihood.is_count else QUADRATIC_NODES
