"""Fit global walks by stochastic gradients of the evidence lower bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.module.treewalk import GlobalWalkModule, leave_one_out
from scpln.train import Ascent, NotFiniteError, ascend, torch_random, torch_threads

from ._fit_node import Precisions
from ._global import walk_batch
from ._local import fit_local
from ._split import INTERCEPT_PRECISION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scpln.module.treewalk import WalkBatch

    from ._data import TreeCounts

#: Entries of the history, of ten steps each, whose mean is compared with the best before, and how often it may be no better.
WINDOW, PATIENCE = 10, 5


@dataclass
class Plateau:
    """Whether a noisy objective has stopped to rise: means over 100 steps gained less than the tolerance five times in a row.

    Examples
    --------
    >>> plateau = Plateau(tol=1e-3)
    >>> for step in range(60):
    ...     plateau.add(-1.0)
    >>> plateau.reached
    True
    """

    tol: float
    best: float = -np.inf
    waited: int = 0
    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """The next entry of the history."""
        self.values.append(value)
        if len(self.values) == WINDOW:
            mean = float(np.mean(self.values))
            self.waited = 0 if mean > self.best + self.tol else self.waited + 1
            self.best = max(self.best, mean)
            self.values.clear()

    @property
    def reached(self) -> bool:
        """Whether it has."""
        return self.waited >= PATIENCE


@dataclass(frozen=True)
class GlobalFit:
    """Fitted global walks.

    Attributes
    ----------
    module
        With the last parameters.
    history
        Evidence lower bound plus log-prior, nats per sample, means over ten steps each, with the log-likelihood of samples by the Dirichlet tree, at which it begins, as a
        control variate.
    converged, reason
        Whether the bound stopped to rise, and why training ended.
    """

    module: GlobalWalkModule
    history: list[float]
    converged: bool
    reason: str


def fit_global(
    data: TreeCounts,
    *,
    n_state: int = 8,
    n_walks: int = 4,
    precisions: Precisions | None = None,
    max_epochs: int = 1000,
    tol: float = 1e-5,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    seed: int = 0,
    n_threads: int | None = 1,
    on_iteration: Callable[[int, float], None] | None = None,
) -> GlobalFit:
    """Maximise the evidence lower bound plus the log-prior, from the fitted Dirichlet tree.

    Parameters
    ----------
    data
        Counts.
    n_state
        Numbers of the state.
    n_walks
        Walks of each sample in a step, at least 2.
    precisions
        Of the priors.
    max_epochs
        Most times that each sample is looked at.
    tol
        Training ends when means of the bound over 100 steps gain less than this five times in a row, nats per sample.
    batch_size, learning_rate
        Samples in a step, and the largest learning rate of Adam.
    seed
        Of first values, order of samples, and walks.
    n_threads
        Of torch.
    on_iteration
        Called every ten steps with how many epochs there were, and the objective per sample.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.core import Tree
    >>> from scpln.inference.treewalk import TreeCounts, fit_global
    >>> edges = [("root", "A"), ("root", "B"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")]
    >>> leaves = np.random.default_rng(0).multinomial(100, [0.2, 0.3, 0.1, 0.4], size=50)
    >>> fit = fit_global(TreeCounts.of(Tree.from_edges(edges), leaves, np.ones((50, 1))), max_epochs=5)
    >>> fit.reason
    '5 epochs, the maximum: 5 stochastic steps'
    """
    precisions = Precisions() if precisions is None else precisions
    with torch_random(seed):
        module = GlobalWalkModule(data.tree, data.design.shape[1], n_state)
    start = fit_local(data, exchangeable=True, precisions=precisions)
    with torch.no_grad():
        for v, node in start.walk.nodes.items():
            module.coefficients[:, data.tree.children[v] - 1] = torch.from_numpy(node.split.coefficients)
    of_start = torch.from_numpy(start.walk.log_likelihood(data))
    whole = walk_batch(module, data)
    module.standardize(whole)
    priors = INTERCEPT_PRECISION, precisions.coefficients, precisions.deviations
    random, plateau = np.random.default_rng(seed), Plateau(tol)
    per_epoch = -(-len(data) // batch_size)

    def step(rows: NDArray[np.intp], batch: WalkBatch) -> torch.Tensor:
        walks = module.propose(batch, torch.from_numpy(random.random((len(rows), n_walks, module.tree.n_inner - 1))))
        joint, log_q = module.log_joint(batch, walks), module.log_proposal(batch, walks)
        prior = module.log_prior(*priors) / len(data)
        (-leave_one_out(joint, log_q).mean() - prior).backward()
        return (joint - log_q).mean(1).detach() + (of_start.mean() - of_start[rows]) + prior.detach()

    def remember(steps: int, value: float) -> None:
        plateau.add(value)
        if on_iteration is not None:
            on_iteration(steps // per_epoch, value)

    batches = _batches(whole, batch_size, random, plateau)
    with torch_threads(n_threads or 1):
        try:
            ascent = ascend(
                step, module, batches, n_steps=max_epochs * per_epoch, learning_rate=learning_rate, on_step=remember
            )
        except NotFiniteError as error:
            ascent = error.ascent
    return GlobalFit(module.requires_grad_(False), ascent.bound, *_judge(ascent, plateau, max_epochs, tol))


def _batches(
    whole: WalkBatch, size: int, random: np.random.Generator, plateau: Plateau
) -> Iterator[tuple[NDArray[np.intp], WalkBatch]]:
    """Samples in random order, epoch after epoch, until the bound has stopped to rise."""
    while True:
        order = random.permutation(len(whole))
        for start in range(0, len(order), size):
            if plateau.reached:
                return
            rows = order[start : start + size]
            yield rows, whole[torch.from_numpy(rows)]


def _judge(ascent: Ascent, plateau: Plateau, max_epochs: int, tol: float) -> tuple[bool, str]:
    if ascent.interrupted or ascent.failed:
        return False, ascent.reason
    if plateau.reached:
        return (
            True,
            f"converged: the bound stopped to rise by {tol:g} nats per cell in 100 steps, after {ascent.reason}",
        )
    return False, f"{max_epochs} epochs, the maximum: {ascent.reason}"
