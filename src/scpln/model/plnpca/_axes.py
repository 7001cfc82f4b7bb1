"""Fits in other coordinates of their latent space."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.module import GaussianPosterior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.inference import FitResult


def in_diagonal_axes(result: FitResult) -> FitResult:
    """The same fit in the coordinates in which a mean-field posterior is diagonal."""
    w = result.rotation
    gaussian = GaussianPosterior(result.mean, result.covariance).rotate(w.T)
    return replace(
        result,
        loadings=result.loadings @ w.T,
        mean=gaussian.mean.astype(np.float32),
        covariance=gaussian.packed_covariance.astype(np.float32),
        rotation=np.eye(len(w)),
        prior=None if result.prior is None else result.prior.moved(w.T),
        spread=None if result.spread is None else rotated_packed(result.spread, w),
    )


def rotated_packed(spread: NDArray[np.floating], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Packed T S Tᵀ of packed symmetric matrices S (p, q(q+1)/2)."""
    return spread.astype(np.float64) @ linalg.congruence(transform)
