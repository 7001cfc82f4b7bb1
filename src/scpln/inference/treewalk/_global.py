"""Global walks: the inner nodes of a tree are visited one after the other, and each split depends on those before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import logsumexp

from ._draw import draw_split
from ._lattice import Lattice
from ._split import Split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import Array, Tree
    from scpln.module.treewalk import GlobalWalkModule, WalkBatch

    from ._data import TreeCounts

#: Walks of each sample that means are taken over, and walks × nodes × states in memory at a time.
WALKS, BLOCK = 100, 20_000_000


@dataclass(frozen=True)
class GlobalWalk:
    """Walks over a tree, drawn given the counts of samples, of each from a stream of random numbers of its own.

    Parameters
    ----------
    tree
        Without only children.
    module
        Parameters, float64.
    seed
        Of draws.
    """

    tree: Tree
    module: GlobalWalkModule
    seed: int = 0

    def elbo(self, data: TreeCounts) -> Array:
        """Evidence lower bound of each sample given its total, (n,): the mean over 100 walks."""
        return np.concatenate([np.zeros(0), *(weights.mean(1) for _, _, weights in self._weighed(data, WALKS))])

    def iw_bound(self, data: TreeCounts, n_samples: int) -> Array:
        """Importance-weighted bound of each sample given its total, (n,), of K walks."""
        found = [logsumexp(weights, axis=1) - np.log(n_samples) for _, _, weights in self._weighed(data, n_samples)]
        return np.concatenate([np.zeros(0), *found])

    def node_log_likelihoods(self, data: TreeCounts) -> Array:
        """Posterior mean of the log-probability of how each inner node is split, given its count and the walk, (n, inner nodes)."""
        found = [
            _mean(shares, self.module.log_splits(batch, walks).numpy())
            for batch, walks, shares in self._posterior(data)
        ]
        return np.concatenate([np.zeros((0, len(self.tree.inner))), *found])

    def mean_shares(self, data: TreeCounts) -> Array:
        """Posterior mean of the share that each node has of its parent, (n, V); 1 for the root, NaN where a sample lacks the node."""
        found, tree = [np.ones((0, len(self.tree)))], self.module.tree
        for batch, walks, shares in self._posterior(data):
            alpha = torch.where(batch.present[:, None], self.module.log_concentrations(batch, walks).exp(), 0.0)
            known = alpha + batch.counts[:, None]
            means = _mean(shares, (known / tree.over_siblings(known)[..., tree.parent]).numpy())
            means = np.where(batch.present.numpy(), means, np.nan)
            found.append(np.column_stack([np.ones(len(means)), means]))
        return np.concatenate(found)

    def ranks(self, data: TreeCounts) -> Array:
        """Posterior mean of the place of each inner node in the walk, (n, inner nodes), from 1."""
        found = [_mean(shares, walks.argsort(-1).numpy() + 1.0) for _, walks, shares in self._posterior(data)]
        return np.concatenate([np.zeros((0, len(self.tree.inner))), *found])

    @torch.no_grad()
    def draw(self, totals: Array, design: Array, random: np.random.Generator) -> Array:
        """Counts of all nodes, (n, V), of samples with these totals, (n,)."""
        n, module, tree = len(totals), self.module, self.tree
        counts = np.zeros((n, len(tree)))
        counts[:, 0] = totals
        walks = module.draw_walks(torch.from_numpy(random.random((n, 1, len(tree.inner) - 1))))[:, 0].numpy()
        state, x = torch.zeros(n, module.state.n_state, dtype=torch.float64), torch.from_numpy(design)
        coefficients = np.vstack([module.coefficients.numpy(), module.on_split.numpy().T])
        for here in walks.T:
            known = np.column_stack([design, state.numpy()])
            for i in np.unique(here):
                rows, children = np.flatnonzero(here == i), tree.children[tree.inner[i]]
                split, order = Split.exchangeable(coefficients[:, children - 1]), Lattice.of_order(range(len(children)))
                counts[np.ix_(rows, children)] = draw_split(
                    split, order, counts[rows, tree.inner[i]], known[rows], random
                )
            batch = module.batch(torch.from_numpy(counts), x)
            told = module.state.inputs(module.ratios(batch))[np.arange(n), here]
            moves = batch.seen[np.arange(n), here]
            state = torch.where(moves[:, None], module.state.after(state, told), state)
        return counts

    def _posterior(self, data: TreeCounts) -> Iterator[tuple[WalkBatch, torch.Tensor, Array]]:
        """Samples, walks (n, K, m) and their weights (n, K), which add up to 1."""
        for batch, walks, weights in self._weighed(data, WALKS):
            yield batch, walks, np.exp(weights - logsumexp(weights, axis=1, keepdims=True))

    @torch.no_grad()
    def _weighed(self, data: TreeCounts, n_walks: int) -> Iterator[tuple[WalkBatch, torch.Tensor, Array]]:
        """Samples, walks given their counts, and log p(y, z) − log q(z | y), (n, K), nats."""
        whole = walk_batch(self.module, data)
        streams, m = np.arange(len(data)) if data.streams is None else data.streams, len(self.tree.inner)
        size = max(1, BLOCK // (n_walks * len(self.tree) * self.module.state.n_state))
        for start in range(0, len(data), size):
            batch = whole[start : start + size]
            uniforms = torch.from_numpy(_uniforms(self.seed, streams[start : start + size], (n_walks, m - 1)))
            walks = self.module.propose(batch, uniforms)
            weights = self.module.log_joint(batch, walks) - self.module.log_proposal(batch, walks)
            yield batch, walks, weights.numpy()


def walk_batch(module: GlobalWalkModule, data: TreeCounts) -> WalkBatch:
    """Samples as tensors."""
    present = None if data.present is None else torch.from_numpy(data.present)
    return module.batch(torch.from_numpy(data.counts), torch.from_numpy(data.design), present)


def _uniforms(seed: int, streams: NDArray[np.intp], shape: tuple[int, int]) -> Array:
    """Uniform numbers (n, …), of each sample from a stream of its own."""
    keys = (np.array([seed, stream], np.uint64) for stream in streams)
    return np.stack([np.random.Generator(np.random.Philox(key=key)).random(shape) for key in keys])


def _mean(shares: Array, values: Array) -> Array:
    """Over walks, (n, …), of values (n, K, …)."""
    return np.asarray(np.einsum("nk,nk...->n...", shares, values))
