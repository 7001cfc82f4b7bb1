"""Proposals of importance sampling in gene space: where points are drawn, and with which weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import gammaln

from scpln.core import ranges
from scpln.inference.sampling._importance import cell_noise

from ._estimate import take_cells
from ._points import WeightedPoints, log_likelihood, normal_log_density

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.inference.genespace import GenePosteriors
    from scpln.inference.genespace._observations import Observations
    from scpln.module.covariances import Covariance

#: Share of the draws from the prior, so that weights are bounded.
PRIOR_SHARE = 0.05
#: Degrees of freedom of the others' distribution, of the shape of the Gaussian posterior.
DEGREES = 20
#: Numbers in the matrices of a block of cells.
BLOCK_ENTRIES = 1024 * 1024


def draw_points(
    observations: Observations,
    coefficients: Array,
    covariance: Covariance,
    cells: GenePosteriors,
    pool: Threads,
    *,
    n_samples: int,
    seed: int,
    positions: NDArray[np.intp] | None = None,
) -> WeightedPoints:
    r"""Draws of every cell from a defensive mixture [1]_, with their weights.

    .. math:: q(z) = (1 - a) \, t_\nu(z; m, V) + a \, N(z; Bx, \Sigma)

    with the Gaussian posterior's mean and covariance :math:`V = (\Omega + \text{diag}\, A)^{-1}` and a = 0.1. Where counts are small the posterior
    falls off as slowly as the prior, which is wider than V, so that under the Gaussian alone weights would have no variance; under q none is
    above p(y | z) / a. Draws come in pairs, to both sides of m. Each cell has its own random numbers, of `seed` and its
    position.

    References
    ----------
    .. [1] Hesterberg (1995), Weighted average importance sampling and defensive mixture distributions. Technometrics 37, 185-194.
    """
    n, p = observations.shape
    streams = np.arange(n) if positions is None else positions
    prior_mean, precision = observations.design @ coefficients.T, covariance.precision
    factor = np.linalg.cholesky(covariance.dense)
    weight = observations.rates(slice(None), observations.offsets + cells.mean + 0.5 * cells.variance)
    n_prior = int(np.ceil(PRIOR_SHARE * n_samples))
    points, log_weights = np.empty((n, n_samples, p)), np.empty((n, n_samples))

    def block(start: int, stop: int) -> None:
        here = slice(start, stop)
        noise = cell_noise(seed, streams[here], n_samples, p + DEGREES).transpose(0, 1).numpy()
        whitened, log_det = whitened_factors(factor, weight[here])
        z = points[here]
        z[:, :n_prior] = prior_mean[here, None] + noise[:, :n_prior, :p] @ factor.T
        z[:, n_prior:] = cells.mean[here, None] + _student(noise[:, n_prior:], p, factor, whitened)
        from_mean = z - cells.mean[here, None]
        distance = np.einsum("nkp,nkp->nk", from_mean @ precision, from_mean)
        distance += np.einsum("np,nkp->nk", weight[here], np.square(from_mean))
        log_t = _student_log_density(distance, p) - 0.5 * log_det[:, None]
        log_prior = normal_log_density(z - prior_mean[here, None], factor)
        share = n_prior / n_samples
        log_q = np.logaddexp(np.log(share) + log_prior, (np.log1p(-share) if share < 1 else -np.inf) + log_t)
        log_weights[here] = log_likelihood(observations, here, z) - log_q - np.log(n_samples)

    size = max(1, BLOCK_ENTRIES // (max(n_samples, p) * (p + DEGREES)))
    pool.map_each(block, list(ranges(0, n, size)))
    return WeightedPoints(observations, cells, points, log_weights)


def importance_bounds(
    observations: Observations,
    coefficients: Array,
    covariance: Covariance,
    cells: GenePosteriors,
    pool: Threads,
    *,
    n_samples: int,
    seed: int,
    positions: NDArray[np.intp] | None = None,
) -> tuple[Array, Array]:
    """Importance-weighted bound of each cell and its effective sample size as a share of the draws, (n,) each."""
    n, p = observations.shape
    streams = np.arange(n) if positions is None else positions
    bounds, shares = np.empty(n), np.empty(n)
    for start, stop in ranges(0, n, max(1, 16 * BLOCK_ENTRIES // (n_samples * p))):
        here = np.arange(start, stop)
        some = take_cells(cells, here)
        drawn = draw_points(
            observations.take(here),
            coefficients,
            covariance,
            some,
            pool,
            n_samples=n_samples,
            seed=seed,
            positions=streams[here],
        )
        drawn.settle(coefficients, covariance, pool)
        bounds[here], shares[here] = drawn.bound, drawn.ess
    return bounds, shares


def whitened_factors(factor: Array, weight: Array) -> tuple[torch.Tensor, Array]:
    """Cholesky factors G of I + Lᵀ diag(a) L, so that V = L G⁻ᵀ G⁻¹ Lᵀ, and log det V."""
    scale, weights = torch.from_numpy(factor), torch.from_numpy(weight)
    matrices = torch.einsum("ja,ij,jb->iab", scale, weights, scale) + torch.eye(len(factor), dtype=torch.float64)
    whitened, failed = torch.linalg.cholesky_ex(matrices)
    if failed.any():
        msg = "a posterior covariance is not positive definite"
        raise np.linalg.LinAlgError(msg)
    own = whitened.diagonal(dim1=1, dim2=2).log().sum(1).numpy()
    return whitened, 2 * (np.log(np.diagonal(factor)).sum() - own)


def _student(noise: Array, p: int, factor: Array, whitened: torch.Tensor) -> Array:
    """Multivariate t draws around 0 from normal numbers (n, K, p + ν), in pairs of opposite sign."""
    half = -(-noise.shape[1] // 2)
    both = np.concatenate([noise[:, :half], -noise[:, : noise.shape[1] - half]], axis=1)
    gaussian = torch.linalg.solve_triangular(whitened.mT, torch.from_numpy(both[..., :p]).mT, upper=True).mT.numpy()
    chi_square = np.square(both[..., p:]).sum(2, keepdims=True)
    drawn: NDArray[np.float64] = gaussian @ factor.T * np.sqrt(DEGREES / chi_square)
    return drawn


def _student_log_density(distance: Array, p: int) -> Array:
    """Log-density of a multivariate t with identity scale at a squared distance from its centre."""
    constant = gammaln((DEGREES + p) / 2) - gammaln(DEGREES / 2) - 0.5 * p * np.log(DEGREES * np.pi)
    density: NDArray[np.float64] = constant - 0.5 * (DEGREES + p) * np.log1p(distance / DEGREES)
    return density


def independent_seed(seed: int) -> int:
    """Seed of draws that have nothing in common with those of `seed`."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0])
