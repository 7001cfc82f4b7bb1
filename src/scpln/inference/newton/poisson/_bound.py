"""The closed-form bound itself, exactly: float64, full log-factorial, one number per cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scpln.core import _linalg as linalg
from scpln.core import log_factorial_sums, threads

if TYPE_CHECKING:
    from scpln.core import Array, CountData


def elbo(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    mean: Array,
    covariance: Array,
    *,
    batch_size: int | None = None,
    n_threads: int | None = None,
) -> Array:
    r"""Evidence lower bound of each cell, nats, given its size factor and covariates.

    .. math::
        A_{ij} &= \exp(o_i + x_i·B_j + m_i·C_j + ½ C_jᵀ V_i C_j) \\
        \mathrm{ELBO}_i &= \sum_j [y_{ij} (o_i + x_i·B_j + m_i·C_j) - A_{ij} - \log y_{ij}!]
            - ½ [‖m_i‖² + \mathrm{tr} V_i - \log\det V_i - q]

    Parameters
    ----------
    data
        Counts of n cells and p genes, with offsets and design.
    coefficients, loadings
        B (p, d) and C (p, q).
    mean, covariance
        Posterior means m (n, q) and covariances V as packed lower triangles (n, q(q+1)/2), row by row.
    batch_size
        Cells at a time; chosen for the processor's cache when None. Does not change the result.
    n_threads
        Threads; all available ones when None.

    Returns
    -------
    Bound per cell, shape (n,).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scpln.inference import CountData, elbo
    >>> data = CountData(sp.csr_matrix([[1.0, 0.0]]), np.zeros(1), np.ones((1, 1)))
    >>> elbo(data, np.zeros((2, 1)), np.zeros((2, 1)), np.zeros((1, 1)), np.ones((1, 1)))
    array([-2.])
    """
    q = loadings.shape[1]
    first, second = linalg.tril_indices(q)
    quadratic = linalg.packed_outer(np.asarray(loadings, np.float64)) * np.where(first == second, 0.5, 1.0)
    features = np.hstack([data.membership, coefficients, loadings, quadratic])
    linear = np.hstack([coefficients, loadings])
    diagonal = np.flatnonzero(first == second)
    block = max(1, data.block_size(batch_size) // 2)
    result = np.empty(data.n_cells)

    def process_chunk(start: int, stop: int) -> None:
        buffer = np.empty((block, data.n_genes))
        for begin, end, rows in data.blocks(start, stop, block):
            x, m, v = (
                data.design[begin:end],
                mean[begin:end].astype(np.float64),
                covariance[begin:end].astype(np.float64),
            )
            o, counts, rates = data.log_sizes[begin:end], sp.csr_matrix(rows, dtype=np.float64), buffer[: end - begin]
            np.matmul(np.hstack([o, x, m, v]), features.T, out=rates)
            data.add_entry_offsets(slice(begin, end), rates)
            with np.errstate(over="ignore"):  # of posteriors far from the counts: −∞
                np.exp(rates, out=rates)
            slopes = counts @ linear
            of_sizes = (o * (counts @ data.membership)).sum(1)
            if data.entries is not None:
                of_sizes += data.entries.weighted(slice(begin, end), counts)
            fit = of_sizes + (np.hstack([x, m]) * slopes).sum(1) - rates.sum(1) - log_factorial_sums(counts)
            log_det = linalg.invert(linalg.unpack(v, q))
            result[begin:end] = fit - 0.5 * ((m * m).sum(1) + v[:, diagonal].sum(1) - log_det - q)

    with threads(n_threads) as pool:
        pool.map_chunks(process_chunk, data.n_cells, block)
    return result
