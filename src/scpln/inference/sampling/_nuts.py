"""Draws from the exact posteriors of cells, by the no-U-turn sampler of pyro."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pyro.infer.mcmc import MCMC, NUTS

from scpln.module import GaussianPosterior
from scpln.train import as_batch, torch_random, torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import Batch, Generative, Posterior

#: Fewest draws whose two halves can be compared.
FEWEST_DRAWS = 4


@dataclass(frozen=True)
class Chain:
    """Draws from one cell's exact posterior, and how far they can be trusted.

    Attributes
    ----------
    z
        Latent states (draws, q).
    r_hat
        Split R̂, the largest over dimensions: near 1 where the two halves of the chain agree.
    ess
        Effective number of independent draws, the smallest over dimensions.
    divergences
        Draws at which the numerical integration left the posterior.
    """

    z: NDArray[np.float64]
    r_hat: float
    ess: float
    divergences: int


def sample_exact(
    data: CountData,
    generative: Generative,
    posterior: Posterior,
    *,
    n_samples: int,
    n_warmup: int,
    seed: int = 0,
    positions: NDArray[np.intp] | None = None,
) -> Iterator[Chain]:
    r"""One chain for each cell, whose stationary distribution is :math:`p(z_i \mid y_i) \propto p(y_i, z_i)`.

    The chain moves in :math:`w = L^{-1} (z - m)`, with the mean m and the Cholesky factor L of the covariance of the
    cell's approximate posterior, which is where it starts: w is then close to standard normal, and mixes well. What the
    approximation gets wrong, the warm-up learns (step length, and a full mass matrix). float64.

    Parameters
    ----------
    data
        Counts of n cells, with offsets and design.
    generative
        log p(y, z), in float64.
    posterior
        Approximate posteriors of the n cells, in its coordinates.
    n_samples, n_warmup
        Draws of each cell, at least 4, and draws before these that are left out.
    seed
        Of the chains; each cell's depends on this and its position only.
    positions
        Numbers of the cells for the seeds; by default 0 … n − 1.

    References
    ----------
    M. Hoffman and A. Gelman (2014), The no-U-turn sampler, JMLR 15: 1593-1623.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.module import PLNPCAModule
    >>> data = CountData(np.zeros((1, 4)), np.zeros(1), np.ones((1, 1)))
    >>> model = PLNPCAModule.empty(n_genes=4, n_covariates=1, n_latent=2).generative  # z does not matter
    >>> prior = GaussianPosterior(np.zeros((1, 2)), np.array([[1.0, 0.0, 1.0]]))
    >>> (chain,) = sample_exact(data, model, prior, n_samples=50, n_warmup=50)
    >>> chain.z.shape, chain.divergences
    ((50, 2), 0)
    """
    streams = np.arange(data.n_cells) if positions is None else positions
    gaussian = GaussianPosterior(posterior.mean, posterior.packed_covariance)
    for start, stop, rows in data.blocks(0, data.n_cells, 1):
        batch = as_batch(data, rows, slice(start, stop), dtype=torch.float64)
        cell_seed = int(np.random.SeedSequence([seed, int(streams[start])]).generate_state(1)[0])
        with torch_random(cell_seed), torch_threads(1):
            chain = _run(generative, batch, gaussian[start:stop], n_samples, n_warmup)
        yield chain


def _run(generative: Generative, batch: Batch, gaussian: GaussianPosterior, n_samples: int, n_warmup: int) -> Chain:
    mean, scale = torch.from_numpy(gaussian.mean), gaussian.scale

    def states(w: torch.Tensor) -> torch.Tensor:
        return mean + w @ scale[0].T

    kernel = NUTS(potential_fn=lambda state: -generative.log_joint(states(state["w"]), batch).sum(), full_mass=True)
    mcmc = MCMC(
        kernel,
        num_samples=n_samples,
        warmup_steps=n_warmup,
        initial_params={"w": torch.zeros_like(mean)},
        disable_progbar=True,
    )
    mcmc.run()
    diagnostics = mcmc.diagnostics()
    return Chain(
        z=states(mcmc.get_samples()["w"])[:, 0].detach().numpy(),
        r_hat=float(diagnostics["w"]["r_hat"].max()),
        ess=float(diagnostics["w"]["n_eff"].min()),
        divergences=len(diagnostics["divergences"]["chain 0"]),
    )
