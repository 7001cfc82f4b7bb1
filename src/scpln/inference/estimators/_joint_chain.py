"""One Markov chain for all cells together, whose log-rates are drawn from their exact posteriors by NUTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from pyro.infer.mcmc import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin

from scpln.train import torch_random, torch_threads

from ._proposals import whitened_factors

if TYPE_CHECKING:
    from scpln.core import Array
    from scpln.inference.genespace import GenePosteriors
    from scpln.inference.genespace._observations import Observations
    from scpln.module.covariances import Covariance

#: Longest trajectory of leapfrog steps, as a power of two: posteriors are close to standard normal in the coordinates of the chain.
MAX_TREE_DEPTH = 6
#: Draws that the first chain adapts its step length in, and that every further one forgets its start in.
FIRST_WARMUP, WARMUP = 60, 15


class Draws(NamedTuple):
    """Draws of log-rates without offsets (S, n, p), split R̂ and effective number of draws of every entry, (n, p)."""

    z: Array
    r_hat: Array
    ess: Array


@dataclass
class JointChain:
    r"""Draws from :math:`p(z_i \mid y_i)` of all cells by one chain [1]_ on all of them.

    Given B and Σ, cells are independent, so that their joint posterior is the product of what is wanted; one trajectory moves them all,
    a thousand times as fast as a chain for each. Coordinates are :math:`w = F^{-1}(z - m)` of each cell's Gaussian posterior
    with :math:`V = F F^T`, in which the exact one is close to N(0, I) and needs no mass matrix. Chains go on in w where the
    last has ended.

    References
    ----------
    .. [1] Hoffman and Gelman (2014), The no-U-turn sampler. JMLR 15, 1593-1623.
    """

    observations: Observations
    seed: int
    n_chains: int = 0
    step_size: float = 0.2
    last: torch.Tensor | None = None

    def draw(self, coefficients: Array, covariance: Covariance, cells: GenePosteriors, n_samples: int) -> Draws:
        """Draws at B and Σ, from where the last chain has ended."""
        seen, first = self.observations, self.last is None
        factor = np.linalg.cholesky(covariance.dense)
        weight = seen.rates(slice(None), seen.offsets + cells.mean + 0.5 * cells.variance)
        whitened, _ = whitened_factors(factor, weight)
        scale, mean = torch.from_numpy(factor), torch.from_numpy(cells.mean)
        offsets, counts = torch.from_numpy(seen.offsets), torch.from_numpy(seen.counts)
        observed = None if seen.observed is None else torch.from_numpy(seen.observed)
        inverse = torch.linalg.solve_triangular(scale, torch.eye(len(factor), dtype=torch.float64), upper=False)
        from_prior = mean - torch.from_numpy(seen.design @ coefficients.T)
        spread = torch.linalg.solve_triangular(whitened.mT, scale.expand(len(mean), -1, -1), upper=True, left=False)

        def moved(w: torch.Tensor) -> torch.Tensor:
            return torch.bmm(spread, w[..., None])[..., 0]

        def potential(state: dict[str, torch.Tensor]) -> torch.Tensor:
            change = moved(state["w"])
            log_rates = change + mean + offsets
            rates = log_rates.clamp(max=100).exp()
            terms = counts * log_rates - (rates if observed is None else rates * observed)
            return 0.5 * ((from_prior + change) @ inverse.T).square().sum() - terms.sum()

        self.n_chains += 1
        seed = int(np.random.SeedSequence([self.seed, self.n_chains]).generate_state(1)[0])
        with torch_random(seed), torch_threads(1):
            start = torch.zeros_like(mean) if self.last is None else self.last
            kernel = NUTS(
                potential_fn=potential,
                step_size=self.step_size,
                adapt_step_size=first,
                adapt_mass_matrix=False,
                max_tree_depth=MAX_TREE_DEPTH,
            )
            warmup = FIRST_WARMUP if first else WARMUP
            mcmc = MCMC(
                kernel, num_samples=n_samples, warmup_steps=warmup, initial_params={"w": start}, disable_progbar=True
            )
            mcmc.run()
            w = mcmc.get_samples()["w"]
        self.step_size, self.last = float(kernel.step_size), w[-1].detach().clone()
        z = torch.stack([moved(each) for each in w]) + mean
        chain = z[None]
        ess = effective_sample_size(chain, chain_dim=0, sample_dim=1)
        ess = torch.where(ess > 0, ess.clamp(max=n_samples), n_samples)  # below 0 where draws undo each other
        return Draws(z.numpy(), split_gelman_rubin(chain, chain_dim=0, sample_dim=1).numpy(), ess.numpy())
