"""Importance weights of cells: what bounds and diagnostics of any posterior are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import logsumexp

from scpln.core import ranges, threads
from scpln.train import as_batch, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import Generative, Posterior

#: Cells that are computed together, draws × cells of latent states that are in memory at a time, and draws × cells ×
#: genes of log-rates (2 MB, which stay in the processor's cache).
_CELLS, _DRAWN, _ENTRIES = 128, 64 * 1024, 256 * 1024
#: Fewest draws whose tail can be fitted, and differences of log-weights below which weights are equal, or above which
#: the smaller one is nothing beside the larger.
_FEWEST_DRAWS, _CONSTANT, _UNDERFLOW = 25, 1e-9, 600.0


def log_weights(
    data: CountData,
    generative: Generative,
    posterior: Posterior,
    *,
    n_samples: int,
    seed: int = 0,
    positions: NDArray[np.intp] | None = None,
    n_threads: int | None = None,
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    r"""Log-weights :math:`\ell_k = \log p(y_i, z_k) - \log q(z_k)` of draws from each cell's posterior, in nats.

    Each cell has its own stream of random numbers, given by `seed` and its position, so that its weights depend on no
    other cell and not on how the cells are divided into blocks or among threads. log p(y, z) is computed in the
    precision of the model and on its device, everything else in float64.

    Parameters
    ----------
    data
        Counts of n cells, with offsets and design.
    generative
        log p(y, z).
    posterior
        Posteriors of the n cells, in its coordinates.
    n_samples
        Draws K of each cell.
    seed
        Of the draws.
    positions
        Numbers of the cells for the random streams; by default 0 … n − 1.
    n_threads
        Threads, each with blocks of cells of its own; all available ones when None.

    Yields
    ------
    Cells, and their log-weights (K, cells).

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.module import GaussianPosterior, PLNPCAModule
    >>> data = CountData(np.zeros((3, 4)), np.zeros(3), np.ones((3, 1)))
    >>> model = PLNPCAModule.empty(n_genes=4, n_covariates=1, n_latent=1).generative  # rates of 1, whatever z
    >>> prior = GaussianPosterior(np.zeros((3, 1)), np.ones((3, 1)))
    >>> for cells, weights in log_weights(data, model, prior, n_samples=2):
    ...     print(cells, weights.round(6))
    slice(0, 3, None) [[-4. -4. -4.]
     [-4. -4. -4.]]
    """
    n, p = data.n_cells, max(data.n_genes, 1)
    streams = np.arange(n) if positions is None else positions
    parameter = next(generative.parameters())

    @torch.no_grad()
    def weigh(start: int, stop: int, rows: Any) -> tuple[slice, NDArray[np.float64]]:
        batch = as_batch(data, rows, slice(start, stop), dtype=parameter.dtype, device=parameter.device)
        part = posterior[start:stop]
        noise = cell_noise(seed, streams[start:stop], n_samples, posterior.n_noise)
        values = np.empty((n_samples, stop - start))
        for first, last in ranges(0, n_samples, max(1, _DRAWN // (stop - start))):
            z, log_q = part.reparameterize(noise[first:last])
            some = z.to(parameter).split(max(1, _ENTRIES // ((stop - start) * p)))
            log_p = torch.cat([generative.log_joint(states, batch) for states in some])
            values[first:last] = (log_p.cpu().double() - log_q).numpy()
        return slice(start, stop), values

    with threads(n_threads) as pool, torch_threads(1):
        blocks = data.blocks(0, n, max(1, min(_CELLS, _ENTRIES // p)))
        while group := list(islice(blocks, pool.n_threads)):
            yield from pool.map_each(weigh, group)


def sampled_elbo(
    data: CountData,
    generative: Generative,
    posterior: Posterior,
    *,
    n_samples: int,
    seed: int = 0,
    positions: NDArray[np.intp] | None = None,
    n_threads: int | None = None,
    on_cells: Callable[[int], object] | None = None,
) -> NDArray[np.float64]:
    """Evidence lower bound of each cell in nats, the mean of its log-weights; arguments as in `log_weights`.

    `on_cells` is called with the number of cells that are done.
    """
    values = np.empty(data.n_cells)
    settings: dict[str, Any] = {"n_samples": n_samples, "seed": seed, "positions": positions, "n_threads": n_threads}
    for cells, weights in log_weights(data, generative, posterior, **settings):
        values[cells] = weights.mean(0)
        if on_cells is not None:
            on_cells(cells.stop)
    return values


def cell_noise(seed: int, streams: NDArray[np.intp], n_samples: int, q: int) -> torch.Tensor:
    """Standard normal numbers (K, cells, q), of each cell from a stream of its own."""
    noise = np.empty((len(streams), n_samples, q))
    for row, stream in zip(noise, streams, strict=True):
        np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64))).standard_normal(out=row)
    return torch.from_numpy(noise).transpose(0, 1)


@dataclass(frozen=True)
class WeightSummary:
    """What importance weights say of each cell, (n,) each.

    Attributes
    ----------
    iw_bound
        Log of the mean weight, nats.
    ess
        Effective sample size as a share of the draws.
    pareto_k
        Shape k̂ of the weights' tail, NaN of fewer than 25 draws; empty unless asked for.
    """

    iw_bound: NDArray[np.float64]
    ess: NDArray[np.float64]
    pareto_k: NDArray[np.float64]


def summarize_weights(log_weights: NDArray[np.float64], *, tail: bool = False) -> WeightSummary:
    """Bound, effective sample size and, if `tail`, Pareto k̂ of log-weights (K, n).

    Examples
    --------
    >>> import numpy as np
    >>> summary = summarize_weights(np.zeros((100, 2)))
    >>> summary.iw_bound, summary.ess
    (array([0., 0.]), array([1., 1.]))
    """
    n_draws = len(log_weights)
    total = logsumexp(log_weights, axis=0)
    ess = np.minimum(np.exp(2 * total - logsumexp(2 * log_weights, axis=0)) / n_draws, 1.0)
    return WeightSummary(total - np.log(n_draws), ess, _pareto_k(log_weights) if tail else np.empty(0))


def _pareto_k(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape of the generalised Pareto distribution that fits each cell's largest weights.

    Weights that are all equal have no tail: −∞. Where one weight is all that counts, and the others underflow beside
    it: ∞. Of too few draws: NaN. arviz takes minus the log-weights, as it has them in cross-validation.
    """
    from arviz_stats.base.array import array_stats

    n_draws = len(log_weights)
    if n_draws < _FEWEST_DRAWS:
        return np.full(log_weights.shape[1], np.nan)
    n_tail = int(min(n_draws / 5, 3 * np.sqrt(n_draws)))
    tail = np.sort(log_weights, axis=0)[-n_tail:]
    span = tail[-1] - tail[0]
    shapes = np.where(span < _CONSTANT, -np.inf, np.inf)
    fits = (span >= _CONSTANT) & (span < _UNDERFLOW)
    if fits.any():
        shapes[fits] = array_stats.psislw(-log_weights[:, fits], axis=0)[1]
    return shapes
