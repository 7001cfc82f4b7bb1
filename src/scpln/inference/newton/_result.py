"""What a fit by Newton's method returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array

    from .prior import GenePrior


@dataclass(frozen=True)
class FitResult:
    """A fitted model, in the identified rotation of its latent space.

    Attributes
    ----------
    coefficients, loadings
        B (p, d) and C (p, q).
    mean, covariance
        Means m (n, q) and covariances V of the posteriors as packed lower triangles (n, q(q+1)/2), row by row.
    elbo
        Exact bound of each cell, nats, (n,).
    prior
        Prior of the genes' coefficients and loadings, in the same rotation.
    spread
        Covariances S of the loadings' posteriors as packed lower triangles (p, q(q+1)/2); None without a prior.
    n_kept
        Latent dimensions that explain anything, at most q: the others, last, have loadings of 0.
    rotation
        W (q, q): the axes in which a mean-field posterior is diagonal are z @ Wᵀ. The identity for full rank.
    history
        Lists with one entry per accepted iteration of the last stage, which has the requested posterior and all cells: `"elbo"`
        (mean bound per cell, nats), `"objective"` (what is maximised: with a prior, the bound of counts and loadings
        together) and `"seconds"` since the start of the first.
    converged, reason
        Whether the bound stopped rising, and why training stopped, in words.
    stuck
        Positions of cells whose posteriors did not converge, in float64 either.
    """

    coefficients: Array
    loadings: Array
    mean: Array
    covariance: Array
    elbo: Array
    rotation: Array
    history: dict[str, list[float]]
    converged: bool
    reason: str
    stuck: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    prior: GenePrior | None = None
    spread: Array | None = None
    n_kept: int = -1

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit, or was pressed while it was finished."""
        return "interrupted" in self.reason
