"""What exact inference gives, computed apart from the posteriors that are compared: likelihood and its maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import gammaln, logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.inference import CountData

    Array = NDArray[np.float64]

#: Draws × cells of an iteration of expectation-maximisation, iterations, and the last of them that are averaged.
_DRAWS, _ITERATIONS, _AVERAGED = 30_000, 30, 15
_LARGEST_STEP = 0.5


def loglik_by_quadrature(data: CountData, b: Array, c: Array, *, reach: float = 9.0, nodes: int = 4001) -> Array:
    r"""Log-likelihood of each cell with one latent dimension: :math:`\log \int p(y \mid z) N(z; 0, 1) dz`, (n,).

    By the trapezoidal rule on [−9, 9], which is exact to rounding for integrands this smooth. Poisson.
    """
    z = np.linspace(-reach, reach, nodes)
    y = np.asarray(data.rows(0, data.n_cells).todense(), dtype=np.float64)
    known = data.offsets[:, None] + data.design @ b.T
    log_prior = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    values = np.empty(data.n_cells)
    for i, (counts, level) in enumerate(zip(y, known, strict=True)):
        eta = level + np.outer(z, c[:, 0])
        log_joint = eta @ counts - np.exp(eta).sum(1) - gammaln(counts + 1).sum() + log_prior
        values[i] = logsumexp(log_joint) + np.log(z[1] - z[0])
    return values


@torch.no_grad()
def importance_em(data: CountData, b: Array, c: Array, *, seed: int = 0) -> tuple[Array, Array]:
    r"""Maximum of the Poisson log-likelihood over B and C, by expectation-maximisation with importance-weighted draws.

    Each iteration draws from the optimal full-rank Gaussians of the present B and C, weights the draws of each cell by
    :math:`w_k \propto p(y, z_k) / q(z_k)`, moves the prior's mean and covariance into B and C (parameter expansion), and
    makes one Newton step for every gene in the Poisson regression of its counts on (x, z) with these weights. New draws
    in each iteration, and an average over the last ones.
    """
    from scpln.inference import infer
    from scpln.module import GaussianPosterior

    generator = torch.Generator().manual_seed(seed)
    y = torch.from_numpy(np.asarray(data.rows(0, data.n_cells).todense(), dtype=np.float32))
    x = torch.from_numpy(data.design.astype(np.float32))
    o = torch.from_numpy(data.offsets.astype(np.float32))
    n, d, q = len(y), x.shape[1], c.shape[1]
    n_draws = max(16, _DRAWS // n)
    kept = []
    for iteration in range(_ITERATIONS):
        posterior = GaussianPosterior(*infer(data, b, c, n_threads=1))
        noise = torch.randn((n_draws, n, q), generator=generator, dtype=torch.float64)
        z, log_q = posterior.reparameterize(noise)
        features = torch.cat([x.expand(n_draws, n, d), z.float()], 2)
        weights = _weights(y, o, features, b, c, log_q)
        b, c, features = _expand(b, c, features, weights, d)
        b, c = _regress(y, o, features, weights, b, c)
        if iteration >= _ITERATIONS - _AVERAGED:
            kept.append((b, c))
    coefficients, loadings = (np.mean(values, 0) for values in zip(*kept, strict=True))
    return coefficients, loadings


def _log_rates(o: torch.Tensor, features: torch.Tensor, b: Array, c: Array) -> torch.Tensor:
    both = torch.from_numpy(np.hstack([b, c]).astype(np.float32))
    return (features @ both.T).add_(o[:, None])


def _weights(
    y: torch.Tensor, o: torch.Tensor, features: torch.Tensor, b: Array, c: Array, log_q: torch.Tensor
) -> torch.Tensor:
    """Normalised importance weights (K, n)."""
    z = features[..., b.shape[1] :].double()
    eta = _log_rates(o, features, b, c)
    log_p = torch.einsum("knp,np->kn", eta, y).double() - eta.exp_().sum(2).double() - 0.5 * z.square().sum(2)
    return torch.softmax(log_p - log_q, 0)


def _expand(
    b: Array, c: Array, features: torch.Tensor, weights: torch.Tensor, d: int
) -> tuple[Array, Array, torch.Tensor]:
    """Give the draws mean 0 and covariance I over all cells, and B and C what this takes away."""
    z = features[..., d:].double()
    mean = torch.einsum("kn,kna->a", weights, z) / len(z[0])
    second = torch.einsum("kn,kna,knb->ab", weights, z, z) / len(z[0])
    scale = torch.linalg.cholesky(second - torch.outer(mean, mean))
    moved = torch.linalg.solve_triangular(scale, (z - mean).reshape(-1, z.shape[2]).T, upper=False).T.reshape(z.shape)
    b = b.copy()
    b[:, 0] += c @ mean.numpy()
    return b, c @ scale.numpy(), torch.cat([features[..., :d], moved.float()], 2)


def _regress(
    y: torch.Tensor, o: torch.Tensor, features: torch.Tensor, weights: torch.Tensor, b: Array, c: Array
) -> tuple[Array, Array]:
    """One Newton step for every gene."""
    d, r = b.shape[1], features.shape[2]
    rates = _log_rates(o, features, b, c).exp_().mul_(weights.float()[..., None]).flatten(0, 1)
    flat = features.flatten(0, 1)
    rows, columns = torch.tril_indices(r, r)
    products = (rates.T @ (flat[:, rows] * flat[:, columns])).double()
    means = torch.einsum("kn,knr->nr", weights.float(), features)
    slope = (y.T @ means - rates.T @ flat).double()
    hessian = torch.zeros(len(slope), r, r, dtype=torch.float64)
    hessian[:, rows, columns] = products
    hessian[:, columns, rows] = products
    hessian += 1e-3 * torch.eye(r)
    step = torch.linalg.solve(hessian, slope)
    step *= (_LARGEST_STEP / step.abs().amax(1, keepdim=True).clamp_min(_LARGEST_STEP)).clamp_max(1.0)
    both = np.hstack([b, c]) + step.numpy()
    return both[:, :d], both[:, d:]
