"""Cells whose log-rates are known by weighted points: draws, or the nodes of a quadrature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from scpln.core import ranges
from scpln.inference.genespace._posteriors import Sums
from scpln.inference.genespace.terms import PoissonTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.inference.genespace import GenePosteriors
    from scpln.inference.genespace._observations import Observations
    from scpln.module.covariances import Covariance

#: Share of the effective sample size at first that must be left for points to say something of other B and Σ.
TRUSTED = 0.7
#: Numbers of log-rates that are worked on at a time.
BLOCK_ENTRIES = 512 * 1024


class WeightedPoints:
    r"""Log-likelihood of cells from points z that stay where they are, as a function of B and Σ.

    .. math:: \log p(y_i) \approx \log \sum_k c_{ik} \, p(y_i \mid z_{ik}) \, N(z_{ik}; B x_i, \Sigma)

    with the weights c = 1 / (K q(z)) of K draws from q, which makes it the importance-weighted bound, or those of a quadrature. Only the
    last factor depends on B and Σ, so that the sum is smooth in both, and its slopes are moments under the normalised weights: what
    `Profile` maximises over them.

    Attributes
    ----------
    mean
        Means of the points under their weights, (n, p).
    ess
        Effective sample size of each cell's weights as a share of the points, (n,).
    curvature
        Expected rates (n, p) that the metric of steps is taken at.
    drawn
        Whether points are draws, and not nodes, which are everywhere.
    """

    least_ess: float | None

    def __init__(
        self,
        observations: Observations,
        cells: GenePosteriors,
        points: Array,
        log_weights: Array,
        *,
        drawn: bool = True,
    ) -> None:
        self.observations, self.cells = observations, cells
        self.points, self.log_weights = points, log_weights  # (n, K, p), and log c + log p(y | z), (n, K)
        n, p = observations.shape
        self.mean, self.bound, self.ess = np.empty((n, p)), np.empty(n), np.empty(n)
        log_rates = observations.offsets + cells.mean + 0.5 * cells.variance
        self.curvature = observations.rates(slice(None), log_rates)
        self.variance, self.terms = cells.variance, PoissonTerms(observations)
        self.drawn = drawn
        self.least_ess = None if drawn else 0.0

    def settle(
        self, coefficients: Array, covariance: Covariance, pool: Threads, *, max_steps: int = 0, tol: float = 0.0
    ) -> Sums:
        """Weights under B and Σ, and what they give; there is nothing to search for.

        Far from where points were made for, few carry all the weight, and their sum has maxima that the log-likelihood has not, where
        Σ shrinks around one point of each cell: there it is −∞.
        """
        factor, precision = np.linalg.cholesky(covariance.dense), covariance.precision
        prior_mean = self.observations.design @ coefficients.T
        n, n_points, p = self.points.shape
        size = max(1, BLOCK_ENTRIES // (n_points * p))

        def chunk(start: int, stop: int) -> Array:
            blocks = [slice(*block) for block in ranges(start, stop, size)]
            return sum((self._moments(block, prior_mean[block], factor) for block in blocks), np.zeros((p, p)))

        second = sum(pool.map_chunks(chunk, n, size), np.zeros((p, p)))
        ess = float(self.ess.mean())
        self.least_ess = TRUSTED * ess if self.least_ess is None else self.least_ess
        bound = float(self.bound.sum()) if ess >= self.least_ess else -np.inf
        shift = (self.mean - prior_mean) @ precision
        gradient = precision @ (second - n * covariance.dense) @ precision
        return Sums(bound, self.observations.design.T @ shift, 0.5 * (gradient + gradient.T), np.zeros(0))

    def _moments(self, block: slice, prior_mean: Array, factor: Array) -> Array:
        """Bounds and means of a block of cells, and the sum of their second moments of residuals (p, p)."""
        weights, residual = self.normalised(block, prior_mean, factor)
        self.mean[block] = prior_mean + np.einsum("nk,nkp->np", weights, residual)
        self.ess[block] = 1 / (np.square(weights).sum(1) * weights.shape[1])
        rows = residual.reshape(-1, residual.shape[2])
        return rows.T @ (weights.reshape(-1, 1) * rows)

    def normalised(self, block: slice, prior_mean: Array, factor: Array) -> tuple[Array, Array]:
        """Normalised weights (n, K) of a block, and residuals z − Bx (n, K, p); takes note of the bounds."""
        residual = self.points[block] - prior_mean[:, None]
        log_weights = self.log_weights[block] + normal_log_density(residual, factor)
        self.bound[block] = logsumexp(log_weights, axis=1)
        return np.exp(log_weights - self.bound[block, None]), residual

    @property
    def standard_error(self) -> float:
        """Monte-Carlo standard error of the mean bound per cell; of a quadrature 0."""
        if not self.drawn:
            return 0.0
        variances = (1 / self.ess - 1) / self.points.shape[1]
        return float(np.sqrt(variances.sum()) / len(variances))

    def snapshot(self) -> tuple[Array, ...]:
        """Nothing moves with B and Σ."""
        return ()

    def restore(self, snapshot: tuple[Array, ...]) -> None:
        """Nothing did."""

    def split(self) -> tuple[WeightedPoints, WeightedPoints]:
        """Two of half the points each, every other one."""
        parts = (self.points[:, k::2] for k in (0, 1)), (self.log_weights[:, k::2] + np.log(2) for k in (0, 1))
        first, second = (
            WeightedPoints(self.observations, self.cells, z, log_w) for z, log_w in zip(*parts, strict=True)
        )
        return first, second


def normal_log_density(residual: Array, factor: Array) -> Array:
    """Log N(r; 0, LLᵀ) of residuals (..., p), for a Cholesky factor L."""
    p = len(factor)
    inverse = solve_triangular(factor, np.eye(p), lower=True)
    distance = np.square(residual @ inverse.T).sum(-1)
    constant = np.log(np.diagonal(factor)).sum() + 0.5 * p * np.log(2 * np.pi)
    density: NDArray[np.float64] = -0.5 * distance - constant
    return density


def log_likelihood(observations: Observations, cells: slice, points: Array) -> Array:
    """Log p(y | z) at log-rates without offsets (n, K, p) of some cells, (n, K)."""
    log_rates = points + observations.offsets[cells][:, None]
    counted = np.einsum("np,nkp->nk", observations.counts[cells], log_rates)
    rates = np.exp(np.minimum(log_rates, 100.0))
    if observations.observed is not None:
        rates *= observations.observed[cells][:, None]
    value: NDArray[np.float64] = counted - rates.sum(2) - observations.log_factorial[cells][:, None]
    return value
