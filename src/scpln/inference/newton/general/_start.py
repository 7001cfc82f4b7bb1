"""Where a fit under a likelihood starts: at another fit of the same data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.core import _linalg as linalg
from scpln.inference.newton._axes import independent_axes
from scpln.inference.newton._families import FullRank, GaussianFamily, MeanField
from scpln.inference.newton._genes import GeneParameters
from scpln.inference.newton._stages import AXES_CELLS
from scpln.module import CountBatch

from ._block import LogRateFeatures, require_finite
from ._infer import cell_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import Array, CountData, DType
    from scpln.inference.newton._result import FitResult
    from scpln.inference.newton._states import CellStates
    from scpln.module import Likelihood

#: Log of the largest expected count that a likelihood's parameters start from.
MAX_LOG_EXPECTED = 25.0
#: Largest share of a variance that a covariance of independent dimensions has, by rounding.
INDEPENDENCE = 1e-3


def require_fit_of(data: CountData, start: FitResult, likelihood: Likelihood) -> None:
    """Raise an error unless cells and genes are as many everywhere."""
    n, p = len(start.mean), len(start.loadings)
    if (n, p) != (data.n_cells, data.n_genes) or likelihood.n_genes != p:
        msg = (
            f"data have {data.n_cells} cells and {data.n_genes} genes, but start is a fit of {n} cells and {p} genes, and "
            f"the likelihood has {likelihood.n_genes} genes. Start from scpln.inference.fit of the same data."
        )
        raise ValueError(msg)


def expected_counts(data: CountData, start: FitResult) -> Iterator[tuple[CountBatch, torch.Tensor]]:
    """Counts y, and E[y] under a Poisson fit, block by block."""
    family = FullRank(start.loadings.shape[1])
    features = LogRateFeatures.of(
        data.membership, GeneParameters(start.coefficients, start.loadings), family, np.float32
    )
    for begin, end, rows in data.blocks(0, data.n_cells, data.block_size()):
        known = np.hstack([data.log_sizes[begin:end], data.design[begin:end], start.mean[begin:end]])
        log_rates = known.astype(np.float32) @ features.mean.T
        data.add_entry_offsets(slice(begin, end), log_rates)
        log_rates += 0.5 * (start.covariance[begin:end].astype(np.float32) @ features.variance.T)
        expected, counts = np.exp(np.minimum(log_rates, MAX_LOG_EXPECTED)), CountBatch.from_counts(rows)
        require_finite((expected + counts.dense.numpy()).sum(1), np.arange(begin, end), counts)
        yield counts, torch.from_numpy(expected)


def starting_point(
    data: CountData, start: FitResult, family: GaussianFamily, dtype: DType
) -> tuple[GeneParameters, CellStates]:
    """Coefficients, loadings and cells of another fit, in axes that suit the family."""
    axes = start.rotation
    if isinstance(family, MeanField) and not _is_diagonal(start):
        precision = linalg.unpack(start.covariance[cells_for_axes(data)].astype(np.float64), family.n_latent)
        linalg.invert(precision)
        axes = independent_axes(precision).T
    cells = cell_states(start.mean, start.covariance, axes, family, dtype)
    return GeneParameters(start.coefficients.astype(np.float64), start.loadings.astype(np.float64) @ axes.T), cells


def cells_for_axes(data: CountData) -> NDArray[np.intp]:
    """Cells whose posteriors decide on the axes of mean-field."""
    return np.unique(np.linspace(0, data.n_cells - 1, AXES_CELLS).astype(int))


def _is_diagonal(fit: FitResult) -> bool:
    """Whether posteriors are independent in the axes of the fit."""
    rotated: Array = np.abs(fit.covariance @ linalg.congruence(fit.rotation))
    rows, columns = linalg.tril_indices(fit.loadings.shape[1])
    between, within = rotated[:, rows != columns], rotated[:, rows == columns]
    return bool(between.max(initial=0.0) <= INDEPENDENCE * within.max(initial=0.0))
