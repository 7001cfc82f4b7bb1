"""What a fit in gene space returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.module import Likelihood
    from scpln.module.covariances import Covariance


@dataclass(frozen=True)
class GenePosteriors:
    r"""Posteriors of the log-rates of cells.

    Attributes
    ----------
    mean, variance
        Means m (n, p) of the log-rates without offsets, which include Bx, and their variances, diag V (n, p).
    weight
        Weights a, (n, p), that V follows from: :math:`V = (\Omega + \text{diag}\, a)^{-1}`, or the inverse of its diagonal.
    log_det
        log det V of each cell, (n,).
    elbo
        Bound of each cell, nats, (n,).
    stuck
        Positions of cells whose posteriors did not converge.
    """

    mean: Array
    variance: Array
    weight: Array
    log_det: Array
    elbo: Array
    stuck: NDArray[np.intp]


@dataclass(frozen=True)
class PLNResult(GenePosteriors):
    """A fitted Poisson log-normal model, with the posteriors of its cells.

    Attributes
    ----------
    coefficients
        B (p, d).
    covariance
        Σ.
    likelihood
        Distribution of the counts, with its parameters.
    inflation
        Coefficients a (p, d) of the logit of zero inflation, where it depends on the design; otherwise None.
    history
        Lists with one entry per iteration: `"elbo"` (mean bound per cell, nats), `"objective"` (with the log-prior of
        coefficients, which is what is maximised) and `"seconds"` since the start.
    converged, reason
        Whether the bound stopped rising, and why the fit stopped, in words.
    """

    coefficients: Array
    covariance: Covariance
    likelihood: Likelihood
    history: dict[str, list[float]]
    converged: bool
    reason: str
    inflation: Array | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit, or was pressed while it was finished."""
        return "interrupted" in self.reason
