"""Importance-weighted expectation maximisation in the latent space of PLN-PCA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.inference.newton.poisson import infer
from scpln.module import GaussianPosterior

if TYPE_CHECKING:
    from scpln.core import Array, CountData

#: Draws × cells of an iteration, and fewest draws of a cell.
ALL_DRAWS, FEWEST = 30_000, 16
#: Iterations, and the last of them that are averaged.
ITERATIONS, AVERAGED = 30, 15
#: Largest change of a coefficient or loading in a step, and what is added to curvatures.
LARGEST_STEP, RIDGE = 0.5, 1e-3


@torch.no_grad()
def refine_pca(
    data: CountData, coefficients: Array, loadings: Array, *, n_iterations: int = ITERATIONS, seed: int = 0
) -> tuple[Array, Array]:
    r"""Maximum of the likelihood of PLN-PCA over B and C, from where a fit has ended.

    .. math:: z_i \sim N(0, I), \qquad y_{ij} \sim \text{Poisson}(e^{o_i + x_i \cdot B_j + C_j \cdot z_i})

    Each iteration draws from the optimal full-rank Gaussians of the present B and C, weights the draws of each cell by
    :math:`w_k \propto p(y, z_k) / q(z_k)` [1]_, moves the prior's mean and covariance into B and C (parameter expansion), and
    makes one Newton step for every gene in the Poisson regression of its counts on (x, z) with these weights. New draws
    in each iteration, and an average over the later half of them.

    Parameters
    ----------
    data
        Counts, offsets of cells and design.
    coefficients, loadings
        B (p, d) and C (p, q) of a fit.
    n_iterations
        Iterations, 2 or more.
    seed
        Of the draws, 30,000 of all cells in an iteration but 16 or more of each.

    Returns
    -------
    B and C, with states in the coordinates in which they are N(0, I).

    Raises
    ------
    ValueError
        Entries have offsets of their own or were not observed, or there are fewer than 2 iterations.

    References
    ----------
    .. [1] Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData, fit
    >>> from scpln.inference.estimators import refine_pca
    >>> random = np.random.default_rng(0)
    >>> states = random.standard_normal((200, 1))
    >>> data = CountData(random.poisson(np.exp(states @ np.ones((1, 6)))), np.zeros(200), np.ones((200, 1)))
    >>> start = fit(data, 1)
    >>> b, c = refine_pca(data, start.coefficients, start.loadings)
    >>> b.shape, c.shape
    ((6, 1), (6, 1))
    """
    if data.entries is not None or data.groups is not None:
        msg = "refine_pca is for offsets of cells, and entries or groups of genes of these have others, or were not observed."
        raise ValueError(msg)
    if n_iterations < 2:
        msg = f"n_iterations={n_iterations!r}, but the later half of 2 or more is averaged."
        raise ValueError(msg)
    generator = torch.Generator().manual_seed(seed)
    rows = data.rows(0, data.n_cells)
    y = torch.from_numpy(np.asarray(rows if isinstance(rows, np.ndarray) else rows.todense(), dtype=np.float32))
    x = torch.from_numpy(data.design.astype(np.float32))
    o = torch.from_numpy(data.offsets.astype(np.float32))
    b, c = coefficients, loadings
    n, d, q = len(y), x.shape[1], c.shape[1]
    n_draws = max(FEWEST, ALL_DRAWS // n)
    kept = []
    for iteration in range(n_iterations):
        posterior = GaussianPosterior(*infer(data, b, c, n_threads=1))
        noise = torch.randn((n_draws, n, q), generator=generator, dtype=torch.float64)
        z, log_q = posterior.reparameterize(noise)
        features = torch.cat([x.expand(n_draws, n, d), z.float()], 2)
        weights = _weights(y, o, features, b, c, log_q)
        b, c, features = _expand(b, c, features, weights, d)
        b, c = _regress(y, o, features, weights, b, c)
        if iteration >= n_iterations - max(1, n_iterations * AVERAGED // ITERATIONS):
            kept.append((b, c))
    return np.mean([each for each, _ in kept], 0), np.mean([each for _, each in kept], 0)


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
    hessian += RIDGE * torch.eye(r)
    step = torch.linalg.solve(hessian, slope)
    step *= (LARGEST_STEP / step.abs().amax(1, keepdim=True).clamp_min(LARGEST_STEP)).clamp_max(1.0)
    both = np.hstack([b, c]) + step.numpy()
    return both[:, :d], both[:, d:]
