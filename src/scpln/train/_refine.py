"""Gradient steps that give each cell back a Gaussian of its own, under a flow that cells share."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import torch
from torch import nn

from scpln.module import Conditional, FlowPosterior, GaussianPosterior, backpropagate_bound
from scpln.utils import watched

from ._ascent import ascend
from ._minibatches import Minibatches
from ._torch_state import torch_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.module import Batch, Generative, Posterior

#: Cells that move together; each has its own parameters. Draws of each in a step, and learning rate, in units of its
#: own posterior standard deviations.
_CELLS, _DRAWS, _LEARNING_RATE = 512, 16, 0.01


class _Moves(nn.Module):
    """What is added to Gaussians (m, L), in whitened coordinates: m + L δ, and L T with T lower triangular.

    T is diagonal if the Gaussians are.
    """

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, gaussian: GaussianPosterior, *, diagonal: bool) -> None:
        super().__init__()
        n, q = gaussian.mean.shape
        self.register_buffer("loc", torch.from_numpy(gaussian.mean).float())
        self.register_buffer("scale", gaussian.scale.float())
        self.shift = nn.Parameter(torch.zeros(n, q))
        self.log_diagonal = nn.Parameter(torch.zeros(n, q))
        self.below = nn.Parameter(torch.zeros(n, q, q), requires_grad=not diagonal)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Means (n, q) and lower-triangular scales (n, q, q)."""
        change = torch.tril(self.below, -1) + torch.diag_embed(self.log_diagonal.exp())
        loc = self.loc + torch.einsum("nab,nb->na", self.scale, self.shift)
        return loc, self.scale @ change


def refine(
    data: CountData,
    generative: Generative,
    posterior: Posterior,
    *,
    n_steps: int,
    diagonal: bool = False,
    seed: int = 0,
    n_threads: int | None = None,
) -> Posterior:
    """Improve the Gaussian of each cell by stochastic gradients of its bound, with model, flow and context as they are.

    Parameters
    ----------
    data
        Counts of the cells, with offsets and design.
    generative
        log p(y, z), float32.
    posterior
        Posteriors of these cells.
    n_steps
        Steps of Adam.
    diagonal
        Whether these Gaussians are diagonal, and stay so.
    seed
        Of the draws.
    n_threads
        Threads of torch; by default one.
    """
    generator = torch.Generator().manual_seed(seed)
    if posterior.gaussian is None:
        msg = "refine moves one Gaussian of each cell, and these posteriors are mixtures. Leave it at 0."
        raise ValueError(msg)
    if isinstance(posterior, FlowPosterior):
        start, flow = posterior.gaussian, posterior.flow_as(torch.float32)
        frame, contexts = posterior.frame.float(), posterior.context
    else:
        start, flow, frame, contexts = posterior.gaussian, None, torch.eye(posterior.n_latent), None
    means, scales = [], []
    for cells, batch in watched(
        Minibatches(data, _CELLS).in_order(), "Refining posteriors", data.n_cells, lambda each: len(each[0])
    ):
        moves = _Moves(start[cells], diagonal=diagonal)
        context = None if contexts is None else contexts[cells].float()

        def step(
            _: NDArray[np.intp], batch: Batch, moves: _Moves = moves, context: torch.Tensor | None = context
        ) -> torch.Tensor:
            loc, scale = moves()
            return backpropagate_bound(
                lambda z: generative.log_joint(z @ frame, batch),
                Conditional(loc, scale, flow, context),
                n_samples=_DRAWS,
                n_importance=1,
                generator=generator,
            )

        with torch_threads(n_threads or 1):
            ascent = ascend(step, moves, repeat((cells, batch)), n_steps=n_steps, learning_rate=_LEARNING_RATE)
        if ascent.interrupted:
            raise KeyboardInterrupt
        with torch.no_grad():
            loc, scale = moves()
        means.append(loc.double())
        scales.append(scale.double())
    scale = torch.cat(scales)
    rows, columns = torch.tril_indices(*scale.shape[1:])
    gaussian = GaussianPosterior(torch.cat(means), (scale @ scale.mT)[:, rows, columns])
    return posterior.on(gaussian) if isinstance(posterior, FlowPosterior) else gaussian
