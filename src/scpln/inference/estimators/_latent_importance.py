"""Importance-weighted expectation maximisation in the latent space of PLN-PCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.core import ranges
from scpln.inference.newton._convergence import History
from scpln.inference.newton.poisson import infer
from scpln.module import GaussianPosterior
from scpln.train import torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scpln.core import Array, CountData

#: Draws × cells of an iteration, and fewest draws of a cell.
ALL_DRAWS, FEWEST = 30_000, 16
#: The same where iterations go on until the bound does not rise, and times in a row that it has to be so.
MORE_DRAWS, CALM = 100_000, 2
#: Iterations, and the last of them that are averaged.
ITERATIONS, AVERAGED = 30, 15
#: Largest change of a coefficient or loading in a step, and what is added to curvatures.
LARGEST_STEP, RIDGE = 0.5, 1e-3
#: Share of the draws from N(0, I): the posterior of a cell with few counts falls off more slowly than a Gaussian, under which weights have no variance.
PRIOR_SHARE = 0.05
#: Draws × cells × genes that are in memory at a time.
BLOCK_ENTRIES = 16 * 1024 * 1024


def refine_pca(
    data: CountData, coefficients: Array, loadings: Array, *, n_iterations: int = ITERATIONS, seed: int = 0
) -> tuple[Array, Array]:
    r"""Maximum of the likelihood of PLN-PCA over B and C, from where a fit has ended.

    .. math:: z_i \sim N(0, I), \qquad y_{ij} \sim \text{Poisson}(e^{o_i + x_i \cdot B_j + C_j \cdot z_i})

    Each iteration draws from the optimal full-rank Gaussians of the present B and C, and from N(0, I), one draw in twenty, weights the draws of each cell by
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
    _check_offsets(data)
    if n_iterations < 2:
        msg = f"n_iterations={n_iterations!r}, but the later half of 2 or more is averaged."
        raise ValueError(msg)
    search = _Refinement(data, coefficients, loadings, max(FEWEST, ALL_DRAWS // data.n_cells), seed)
    kept = []
    for iteration in range(n_iterations):
        search.step()
        if iteration >= n_iterations - max(1, n_iterations * AVERAGED // ITERATIONS):
            kept.append((search.coefficients, search.loadings))
    return np.mean([each for each, _ in kept], 0), np.mean([each for _, each in kept], 0)


@dataclass(frozen=True)
class RefinedPCA:
    """B and C of PLN-PCA at the maximum of the importance-weighted bound.

    Attributes
    ----------
    coefficients, loadings
        B (p, d) and C (p, q), averages over the last 15 iterations.
    history
        As of other fits: `"elbo"` and `"objective"` are the importance-weighted bound per cell before each iteration, nats, with noise.
    converged, reason
        Whether the bound stopped rising, and why the iterations ended, in words.
    """

    coefficients: Array
    loadings: Array
    history: dict[str, list[float]]
    converged: bool
    reason: str


def fit_pca_importance(
    data: CountData,
    coefficients: Array,
    loadings: Array,
    *,
    n_samples: int | None = None,
    seed: int = 0,
    max_iter: int = 500,
    tol: float = 1e-4,
    n_threads: int | None = None,
    on_iteration: Callable[[int, float], None] | None = None,
) -> RefinedPCA:
    r"""Maximise the importance-weighted bound of PLN-PCA over B and C, by iterations of `refine_pca` until it stops rising.

    What is compared are means over 15 iterations, whose draws are independent: it has converged when two in a row are above those before them by less than
    `tol`, or than twice the standard error that draws give the difference.

    Parameters
    ----------
    data, coefficients, loadings, seed
        As in `refine_pca`.
    n_samples
        Draws of each cell in an iteration, 2 or more; by default 100,000 of all cells together, but 16 or more of each.
    max_iter
        Most iterations.
    tol
        Nats per cell.
    n_threads
        Threads; one when None.
    on_iteration
        Called with the number of iterations and the mean bound per cell. An interrupt (Ctrl-C) ends the iterations and keeps what they reached.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData, fit
    >>> from scpln.inference.estimators import fit_pca_importance
    >>> random = np.random.default_rng(0)
    >>> states = random.standard_normal((200, 1))
    >>> data = CountData(random.poisson(np.exp(states @ np.ones((1, 6)))), np.zeros(200), np.ones((200, 1)))
    >>> start = fit(data, 1)
    >>> fit_pca_importance(data, start.coefficients, start.loadings).converged
    True
    """
    _check_offsets(data)
    search = _Refinement(data, coefficients, loadings, n_samples or pca_draws(data.n_cells), seed)
    history, kept, errors = History(), [(search.coefficients, search.loadings)], []
    converged, calm, reason = False, 0, f"{max_iter} iterations, the maximum"
    try:
        with torch_threads(n_threads or 1):
            for iteration in range(1, max_iter + 1):
                bound, error = search.step()
                history.add(bound, bound)
                errors.append(error)
                kept = [*kept[-AVERAGED + 1 :], (search.coefficients, search.loadings)]
                if on_iteration is not None:
                    on_iteration(iteration, bound)
                if iteration % AVERAGED or iteration < 2 * AVERAGED:
                    continue
                before, after = np.mean(np.reshape(history.elbo[-2 * AVERAGED :], (2, AVERAGED)), 1)
                noise = 2 * float(np.sqrt(np.mean(np.square(errors[-2 * AVERAGED :])) * 2 / AVERAGED))
                calm = calm + 1 if after - before < max(tol, noise) else 0
                if calm == CALM:
                    converged = True
                    reason = f"converged: {CALM} times {AVERAGED} iterations gain less than {max(tol, noise):.2g} nats per cell"
                    break
    except KeyboardInterrupt:
        reason = f"interrupted after {len(history.elbo)} iterations; what they reached is kept"
    b, c = np.mean([each for each, _ in kept], 0), np.mean([each for _, each in kept], 0)
    return RefinedPCA(b, c, history.lists, converged, reason)


def pca_draws(n_cells: int) -> int:
    """Draws of each cell in an iteration of `fit_pca_importance` unless the user says otherwise.

    Examples
    --------
    >>> pca_draws(200), pca_draws(100_000)
    (500, 16)
    """
    return max(FEWEST, MORE_DRAWS // n_cells)


class _Refinement:
    """Iterations of expectation maximisation with new draws in each, cells a few at a time."""

    def __init__(self, data: CountData, coefficients: Array, loadings: Array, n_draws: int, seed: int) -> None:
        self.data, self.coefficients, self.loadings, self.n_draws = data, coefficients, loadings, n_draws
        self.generator = torch.Generator().manual_seed(seed)
        self.size = max(1, BLOCK_ENTRIES // (n_draws * data.n_genes))

    @torch.no_grad()
    def step(self) -> tuple[float, float]:
        """One iteration; the importance-weighted bound per cell at B and C before it, and its standard error by the draws."""
        data, b, c = self.data, self.coefficients, self.loadings
        n, q = data.n_cells, c.shape[1]
        posterior = GaussianPosterior(*infer(data, b, c, n_threads=1))
        z = torch.randn((self.n_draws, n, q), generator=self.generator, dtype=torch.float64)
        n_prior = int(np.ceil(PRIOR_SHARE * self.n_draws))
        z[n_prior:] = posterior.reparameterize(z[n_prior:])[0]
        log_prior = -0.5 * z.square().sum(2) - 0.5 * q * np.log(2 * np.pi)
        share = n_prior / self.n_draws
        log_gaussian = torch.from_numpy(posterior.log_prob(z)) + np.log1p(-share)
        log_q = torch.logaddexp(log_gaussian, log_prior + np.log(share))
        log_weights = torch.cat([_log_joint(*block, b, c) for block in self.blocks(z)], 1) - log_q
        weights = torch.softmax(log_weights, 0)
        bounds = torch.logsumexp(log_weights, 0) - np.log(self.n_draws)
        variance = (weights.square().sum(0) - 1 / self.n_draws).clamp_min(0)
        b, c, z = _expand(b, c, z, weights)
        slope, hessian = torch.zeros(()), torch.zeros(())
        for (y, o, features), part in zip(self.blocks(z), weights.split(self.size, 1), strict=True):
            own = _derivatives(y, o, features, part, b, c)
            slope, hessian = slope + own[0], hessian + own[1]
        self.coefficients, self.loadings = _moved(slope, hessian, b, c)
        return float(bounds.mean()), float(variance.sum().sqrt() / n)

    def blocks(self, z: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Counts and offsets of consecutive cells, and their columns of the design with draws of states (K, cells, d + q)."""
        data, d = self.data, self.data.design.shape[1]
        for start, stop in ranges(0, data.n_cells, self.size):
            rows = data.rows(start, stop)
            y = torch.from_numpy(np.asarray(rows if isinstance(rows, np.ndarray) else rows.todense(), dtype=np.float32))
            x = torch.from_numpy(data.design[start:stop].astype(np.float32))
            o = torch.from_numpy(data.offsets[start:stop].astype(np.float32))
            yield y, o, torch.cat([x.expand(len(z), stop - start, d), z[:, start:stop].float()], 2)


def _check_offsets(data: CountData) -> None:
    if data.entries is not None or data.groups is not None:
        msg = "refine_pca is for offsets of cells, and entries or groups of genes of these have others, or were not observed."
        raise ValueError(msg)


def _log_rates(o: torch.Tensor, features: torch.Tensor, b: Array, c: Array) -> torch.Tensor:
    both = torch.from_numpy(np.hstack([b, c]).astype(np.float32))
    return (features @ both.T).add_(o[:, None])


def _log_joint(y: torch.Tensor, o: torch.Tensor, features: torch.Tensor, b: Array, c: Array) -> torch.Tensor:
    """Log p(y, z) of draws (K, n), but for the constant of N(0, I), which log q lacks no less."""
    z = features[..., b.shape[1] :].double()
    eta = _log_rates(o, features, b, c)
    log_p = (
        torch.einsum("knp,np->kn", eta, y).double() - eta.exp_().sum(2).double() - torch.lgamma(y.double() + 1).sum(1)
    )
    return log_p - 0.5 * z.square().sum(2) - 0.5 * z.shape[2] * np.log(2 * np.pi)


def _expand(b: Array, c: Array, z: torch.Tensor, weights: torch.Tensor) -> tuple[Array, Array, torch.Tensor]:
    """Give the draws mean 0 and covariance I over all cells, and B and C what this takes away."""
    mean = torch.einsum("kn,kna->a", weights, z) / len(z[0])
    second = torch.einsum("kn,kna,knb->ab", weights, z, z) / len(z[0])
    scale = torch.linalg.cholesky(second - torch.outer(mean, mean))
    moved = torch.linalg.solve_triangular(scale, (z - mean).reshape(-1, z.shape[2]).T, upper=False).T.reshape(z.shape)
    b = b.copy()
    b[:, 0] += c @ mean.numpy()
    return b, c @ scale.numpy(), moved


def _derivatives(
    y: torch.Tensor, o: torch.Tensor, features: torch.Tensor, weights: torch.Tensor, b: Array, c: Array
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes (p, d + q) and curvatures (p, d + q, d + q) of the genes' regressions."""
    r = features.shape[2]
    rates = _log_rates(o, features, b, c).exp_().mul_(weights.float()[..., None]).flatten(0, 1)
    flat = features.flatten(0, 1)
    rows, columns = torch.tril_indices(r, r)
    products = (rates.T @ (flat[:, rows] * flat[:, columns])).double()
    means = torch.einsum("kn,knr->nr", weights.float(), features)
    slope = (y.T @ means - rates.T @ flat).double()
    hessian = torch.zeros(len(slope), r, r, dtype=torch.float64)
    hessian[:, rows, columns] = products
    hessian[:, columns, rows] = products
    return slope, hessian


def _moved(slope: torch.Tensor, hessian: torch.Tensor, b: Array, c: Array) -> tuple[Array, Array]:
    """One Newton step for every gene."""
    d = b.shape[1]
    step = torch.linalg.solve(hessian + RIDGE * torch.eye(hessian.shape[1]), slope)
    step *= (LARGEST_STEP / step.abs().amax(1, keepdim=True).clamp_min(LARGEST_STEP)).clamp_max(1.0)
    both = np.hstack([b, c]) + step.numpy()
    return both[:, :d], both[:, d:]
