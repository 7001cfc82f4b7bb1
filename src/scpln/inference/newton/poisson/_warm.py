"""Where a fit starts that has another one, of fewer latent dimensions or of more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.newton._stages import START_VARIANCE

from ._start import principal_scores

if TYPE_CHECKING:
    from scpln.core import CountData, Threads
    from scpln.inference.newton._result import FitResult


def with_latent(data: CountData, start: FitResult, n_latent: int, seed: int, pool: Threads, block: int) -> FitResult:
    """Another fit's parameters and posteriors with so many latent dimensions: its leading ones, or new ones after its own.

    New ones have loadings of 0, and states at the principal components of what the fit leaves of the counts.
    """
    known = start.loadings.shape[1]
    if n_latent <= known:
        size = n_latent * (n_latent + 1) // 2  # lower triangles are packed row by row
        loadings, mean, covariance = start.loadings[:, :n_latent], start.mean[:, :n_latent], start.covariance[:, :size]
    else:
        scores = principal_scores(data, start.coefficients, n_latent - known, seed, pool, block, start)
        loadings = np.hstack([start.loadings, np.zeros((data.n_genes, n_latent - known))])
        mean = np.hstack([start.mean, scores])
        rows, columns = linalg.tril_indices(n_latent)
        covariance = np.zeros((len(mean), len(rows)))
        covariance[:, (rows == columns) & (rows >= known)] = START_VARIANCE
        covariance[:, rows < known] = start.covariance
    return replace(
        start,
        loadings=loadings,
        mean=mean,
        covariance=covariance,
        rotation=np.eye(n_latent),
        prior=None,
        spread=None,
        n_kept=n_latent,
    )
