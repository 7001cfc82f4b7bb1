"""Where the alternation starts: totals of the data, and principal components of its Pearson residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scpln.core import CountData, log_factorial_sums, working_precision
from scpln.inference.newton._families import FullRank
from scpln.inference.newton._genes import GeneModel, GeneParameters
from scpln.inference.newton._states import CellStates

from ._block import GeneFeatures, RateBlock
from ._statistics import GeneStatistics

if TYPE_CHECKING:
    from scpln.core import Array, DType, Threads
    from scpln.inference.newton._result import FitResult

#: Residuals beyond this are cut, so that single large counts do not make a component.
MAX_RESIDUAL = 5.0
#: Standardised scores beyond this are cut, so that first steps towards rare states do not go too far.
MAX_SCORE = 3.0
#: Extra random directions, and power iterations, of the randomised decomposition.
OVERSAMPLING, POWER_ITERATIONS = 16, 3
#: Newton steps of the regression on the design.
REGRESSION_STEPS = 5


@dataclass(frozen=True)
class Totals:
    """Constants of the data that the bound and the genes' steps need."""

    count_design: Array  # Σ_i y_ij x_i, (p, d)
    constant: Array  # Σ_j y_ij o_ij − log y_ij!, (n,)
    dtype: DType  # precision that the cells' depths need

    @classmethod
    def of(cls, data: CountData, pool: Threads, block: int) -> Totals:
        """Read the data once."""
        depth, constant = np.empty(data.n_cells), np.empty(data.n_cells)

        def process_chunk(start: int, stop: int) -> Array:
            count_design = np.zeros((data.n_genes, data.design.shape[1]))
            for begin, end, rows in data.blocks(start, stop, block):
                counts = sp.csr_matrix(rows)
                count_design += counts.T.astype(np.float64) @ data.design[begin:end]
                depths = counts @ data.membership
                depth[begin:end] = depths.sum(1)
                constant[begin:end] = (depths * data.log_sizes[begin:end]).sum(1) - log_factorial_sums(counts)
                if data.entries is not None:
                    constant[begin:end] += data.entries.weighted(slice(begin, end), counts)
            return count_design

        count_design = np.sum(pool.map_chunks(process_chunk, data.n_cells, block), axis=0)
        return cls(count_design, constant, working_precision(depth))


def intercept_bound(data: CountData, totals: Totals) -> float:
    """Mean bound per cell of the best model with an intercept alone for every gene, nats: no fit should be below it."""
    total = totals.count_design[:, 0]
    log_rate = np.log(np.where(total > 0, total, 1.0)) - np.log(data.exposures)
    return float((total * log_rate - total).sum() + totals.constant.sum()) / data.n_cells


def regress(data: CountData, totals: Totals, pool: Threads, block: int) -> Array:
    """Coefficients B (p, d) of a Poisson regression of every gene on the design, without latent state.

    An intercept alone has its optimum in closed form, log Σ y − log Σ exp(o), over cells; more covariates start there and take
    Newton steps. A gene without counts gets a rate of 1e-8 at the average cell.
    """
    d = data.design.shape[1]
    total = totals.count_design[:, 0]
    coefficients = np.zeros((data.n_genes, d))
    coefficients[:, 0] = np.log(np.where(total > 0, total / data.exposures, 1e-8))
    parameters = GeneParameters(coefficients, np.zeros((data.n_genes, 0)))
    if d > 1:
        family = FullRank(0)
        for _ in range(REGRESSION_STEPS):
            statistics = latent_free_statistics(data, parameters, family, pool, block)
            step, _ = GeneModel.of(parameters, totals.count_design, statistics, family).step(np.zeros(data.n_genes))
            step[total == 0] = 0
            parameters = GeneParameters(parameters.coefficients + step, parameters.loadings)
    return parameters.coefficients


def latent_free_statistics(
    data: CountData, parameters: GeneParameters, family: FullRank, pool: Threads, block: int
) -> GeneStatistics:
    """Gene statistics of a model without latent state."""
    features = GeneFeatures.of(data.membership, parameters, family, np.float64)
    states = CellStates.at(np.zeros((data.n_cells, 0)), family, 1.0, np.float64)

    def process_chunk(start: int, stop: int) -> GeneStatistics:
        statistics = GeneStatistics(data, family)
        cell_block = RateBlock(block, data, family, np.float64)
        for begin, end, rows in data.blocks(start, stop, block):
            cell_block.load(begin, end, rows)
            cell_block.update_expectations(states, features)
            statistics.add(cell_block, states, family)
        return statistics

    first, *others = pool.map_chunks(process_chunk, data.n_cells, block)
    for other in others:
        first += other
    return first


def principal_scores(
    data: CountData,
    coefficients: Array,
    n_latent: int,
    seed: int,
    pool: Threads,
    block: int,
    fitted: FitResult | None = None,
) -> Array:
    """Standardised scores (n, q) of the leading principal components of Pearson residuals.

    Residuals (y − μ)/√μ of the regression, or of another fit, cut at ±5, are made block by block and never stored; a randomised range
    finder [1]_ reads them a few times.

    .. [1] Halko, Martinsson and Tropp (2011), Finding structure with randomness. SIAM Review 53, 217-288.
    """
    random = np.random.default_rng(seed)
    n, p = data.n_cells, data.n_genes
    width = min(n_latent + OVERSAMPLING, n, p)
    mean, covariance = (np.empty((n, 0)),) * 2 if fitted is None else (fitted.mean, fitted.covariance)
    loadings = np.zeros((p, 0)) if fitted is None else fitted.loadings
    family = FullRank(loadings.shape[1])
    features = GeneFeatures.of(data.membership, GeneParameters(coefficients, loadings), family, np.float32)
    projected = np.empty((n, width), np.float32)

    def process_chunk(start: int, stop: int) -> Array:
        back = np.zeros((p, width))
        cell_block = RateBlock(block, data, family, np.float32)
        for begin, end, rows in data.blocks(start, stop, block):
            cell_block.load(begin, end, rows)
            cell_block.evaluate(mean[begin:end], covariance[begin:end], features)
            residuals, rates = cell_block.counts, cell_block.rates
            residuals -= rates
            residuals /= np.sqrt(rates, out=rates)
            np.clip(residuals, -MAX_RESIDUAL, MAX_RESIDUAL, out=residuals)
            np.matmul(residuals, basis, out=projected[begin:end])
            back += residuals.T @ projected[begin:end]
        return back

    basis = random.standard_normal((p, width)).astype(np.float32)
    for iteration in range(POWER_ITERATIONS + 1):
        back = sum(pool.map_chunks(process_chunk, n, block))
        if iteration < POWER_ITERATIONS:
            basis = np.linalg.qr(back)[0].astype(np.float32)
    _, vectors = np.linalg.eigh((projected.T @ projected).astype(np.float64))
    scores = projected @ vectors[:, ::-1][:, :n_latent].astype(np.float32)
    scores -= scores.mean(0)
    spread = scores.std(0)
    missing = n_latent - int((spread > 1e-6).sum())
    scores = scores[:, spread > 1e-6] / spread[spread > 1e-6]
    np.clip(scores, -MAX_SCORE, MAX_SCORE, out=scores)
    return np.hstack([scores, random.standard_normal((n, missing)).astype(np.float32)])
