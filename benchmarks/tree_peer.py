"""plntree 0.1.0 as a peer: its training as published, stopped by the clock, and its bounds computed anew."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from plntree import PLNTree

if TYPE_CHECKING:
    import pandas as pd


class OutOfTime(Exception):
    """The clock says stop."""


class TimedPLNTree(PLNTree):
    """The peer's model, whose training ends when the time is over; what it has learned by then stays."""

    def fit_within(self, seconds: float, max_epochs: int) -> int:
        """Train with all defaults, and return the number of steps, which are epochs up to 512 samples."""
        self.deadline, self.steps = time.perf_counter() + seconds, 0
        try:
            self.fit(max_epoch=max_epochs, verbose=-1)
        except OutOfTime:
            self.eval()
        return self.steps

    def objective(self, X, output):
        """Its loss."""
        if time.perf_counter() > self.deadline:
            raise OutOfTime
        self.steps += 1
        return super().objective(X, output)


@dataclass
class Peer:
    """A fitted model in double precision, without dropout.

    Attributes
    ----------
    model
        The model.
    by_batch
        Whether its batch normalisation takes the moments of the samples at hand, as in training, in place of running ones, as its `encode` does after training. One
        layer normalises what is known of every level, whose running moments are mixed up.
    """

    model: TimedPLNTree
    by_batch: bool = False

    def __post_init__(self) -> None:
        torch.set_default_dtype(torch.float64)  # its draws are put into tensors of the default
        self.model.double().eval()
        for part in self.model.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.train(self.by_batch)
                part.track_running_stats = not self.by_batch
        for level in range(self.model.tree.L):
            for part in (self.model.mu_fun[level], self.model.omega_fun[level]):
                if isinstance(getattr(part, "data", None), torch.Tensor):
                    part.data = part.data.double()
            self.model.projectors[level].A = self.model.projectors[level].A.double()
        self.model.tree.affiliation_matrix = [matrix.double() for matrix in self.model.tree.affiliation_matrix]

    def iw_bound(self, counts: pd.DataFrame, n_draws: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Importance-weighted bounds of samples with its posterior as the proposal, and means of log-weights, which are its evidence lower bound, nats."""
        torch.manual_seed(seed)
        nodes = self.model.tree.hierarchical_counts(counts).double()
        total = torch.full((len(nodes),), -torch.inf)
        mean = torch.zeros_like(total)
        with torch.no_grad():
            for _ in range(n_draws):
                weight = self.log_weight(nodes)
                total = torch.logaddexp(total, weight)
                mean += weight / n_draws
        return (total - np.log(n_draws)).numpy(), mean.numpy()

    def log_weight(self, nodes: torch.Tensor) -> torch.Tensor:
        """log p(x, z) − log q(z | x) at one draw of z from q for each sample, (n,)."""
        z, means, log_variances = self.model.variational_forward(nodes, None)
        result = self.log_counts(nodes, z)
        for level, mask in enumerate(self.model.tree.K_mask):
            own = z[:, level, mask]
            scale = torch.exp(0.5 * log_variances[level])
            result -= torch.distributions.Normal(means[level], scale).log_prob(own).sum(1)
            before = None if level == 0 else z[:, level - 1, self.model.tree.K_mask[level - 1]]
            none = torch.zeros(len(z)) if level == 0 else None
            mu, precision = self.model.mu(level, before, none), self.model.omega(level, before, none)
            root = torch.linalg.cholesky(0.5 * (precision + precision.mT))
            moved = (root.mT @ (own - mu)[:, :, None])[:, :, 0]
            log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(1)
            result += log_det - 0.5 * (moved.square().sum(1) + own.shape[1] * np.log(2 * np.pi))
        return result

    def log_counts(self, nodes: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Log-probability of the counts of all nodes: Poisson on the first level, and multinomial below."""
        tree = self.model.tree
        first = torch.distributions.Poisson(torch.exp(z[:, 0, : tree.K[0]]))
        result = first.log_prob(nodes[:, 0, : tree.K[0]]).sum(1)
        for level in range(1, tree.L):
            parents, children = nodes[:, level - 1, : tree.K[level - 1]], nodes[:, level, : tree.K[level]]
            above, own = tree.affiliation_matrix[level], z[:, level, : tree.K[level]]
            highest = own.max(1, keepdim=True).values
            log_sum = torch.log(torch.exp(own - highest) @ above.T) + highest
            result += (torch.lgamma(parents + 1) - parents * log_sum).sum(1)
            result += (children * own - torch.lgamma(children + 1)).sum(1)
        return result
