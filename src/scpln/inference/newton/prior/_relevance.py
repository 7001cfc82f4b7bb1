"""Leaving out latent dimensions that explain nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.newton._genes import GeneParameters
from scpln.inference.newton._states import CellStates

if TYPE_CHECKING:
    from scpln.core import Array
    from scpln.inference.newton._families import GaussianFamily

    from ._gene_prior import GenePrior

#: Information about a cell's latent state, in units of the prior's, below which a dimension explains nothing.
VANISHED = 0.01


def relevant_axes(prior: GenePrior, family: GaussianFamily, weight: float) -> Array | None:
    """Orthonormal axes W (q, k) of the dimensions that explain something; None if all do, or nothing was learned.

    Along an axis in which loadings have variance τ², the counts of a cell have the information τ² times `weight` about its
    state, with the sum over genes of their expected counts, or what is in their place.
    """
    if not prior.learned:
        return None
    variance, axes = family.principal_axes(prior.covariance.sum(0))
    kept = variance * weight >= VANISHED
    return None if kept.all() else axes[:, kept]


def reduced(
    cells: CellStates, genes: GeneParameters, prior: GenePrior, family: GaussianFamily, axes: Array
) -> tuple[CellStates, GeneParameters, GenePrior, GaussianFamily]:
    """Cells, genes, prior and family in the given axes (q, k) alone."""
    dtype, k = cells.dtype, axes.shape[1]
    smaller = type(family)(k)
    covariance = family.covariance(cells.variance).astype(np.float64) @ linalg.congruence(axes.T)
    variance = smaller.pack(covariance)
    log_det = linalg.invert(linalg.unpack(smaller.covariance(variance), k))
    states = CellStates((cells.mean @ axes).astype(dtype), variance.astype(dtype), log_det.astype(dtype), cells.step)
    spread = None if genes.spread is None else genes.spread @ linalg.congruence(axes.T)
    parameters = GeneParameters(genes.coefficients, genes.loadings @ axes, spread)
    return states, parameters, prior.rotated(axes), smaller


def extended(
    cells: CellStates, genes: GeneParameters, prior: GenePrior, family: GaussianFamily, n_latent: int
) -> tuple[CellStates, GeneParameters, GenePrior]:
    """The same with further dimensions, which explain nothing; covariances are packed lower triangles."""
    k = family.n_latent
    into = np.eye(n_latent)[:, :k]
    rows, columns = linalg.tril_indices(n_latent)
    new = ((rows == columns) & (rows >= k)).astype(cells.dtype)
    covariance = family.covariance(cells.variance) @ linalg.congruence(into).astype(cells.dtype) + new
    spread = None if genes.spread is None else genes.spread @ linalg.congruence(into)
    states = CellStates(cells.mean @ into.T.astype(cells.dtype), covariance, cells.log_det, cells.step)
    return states, GeneParameters(genes.coefficients, genes.loadings @ into.T, spread), prior.extended(n_latent)
