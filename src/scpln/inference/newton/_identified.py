"""A fit in the identified coordinates of its latent space, with all dimensions that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg

from ._families import MeanField
from ._result import FitResult
from ._rotation import identified_rotation
from .prior import extended

if TYPE_CHECKING:
    from ._families import GaussianFamily
    from ._genes import GeneParameters
    from ._states import CellStates
    from .prior import GenePrior


def identified(
    genes: GeneParameters, cells: CellStates, prior: GenePrior, family: GaussianFamily, n_latent: int
) -> FitResult:
    """Result without bounds: rotated, and with dimensions that were left out, last, where loadings are 0 and states unknown."""
    kept = family.n_latent
    rotation = np.eye(n_latent)
    rotation[:kept, :kept] = identified_rotation(genes.loadings)
    cells, genes, prior = extended(cells, genes, prior, family, n_latent)
    turn = linalg.congruence(rotation.T)
    return FitResult(
        coefficients=genes.coefficients,
        loadings=genes.loadings @ rotation,
        mean=cells.mean @ rotation.astype(cells.dtype),
        covariance=cells.variance @ turn.astype(cells.dtype),
        elbo=np.empty(0),
        rotation=rotation if isinstance(family, MeanField) else np.eye(n_latent),
        history={},
        converged=False,
        reason="",
        prior=prior.moved(rotation),
        spread=None if genes.spread is None else genes.spread @ turn,
        n_kept=kept,
    )
