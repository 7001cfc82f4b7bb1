"""The two trainers by gradients, behind one interface: `ascend` over minibatches, and epochs."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from scpln.core import CountData
from scpln.module import Loss
from scpln.train import NotFiniteError, ascend
from scpln.train.epochs import DeviceOptions, TrainingOptions, train_by_gradients

N_CELLS = 12


class Hill(torch.nn.Module):
    """Bound −|x − 1|² of every cell, times `scale`; what is spoiled are steps, counted from 1."""

    def __init__(self, spoiled=(), what="bound", scale=1.0) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(torch.tensor([0.0, 0.5, 3.0]))
        self.register_buffer("n_seen", torch.zeros(()))
        self.spoiled, self.what, self.scale = spoiled, what, scale
        self.seen = []
        self.x.register_hook(lambda gradient: gradient * torch.nan if self._bad("gradient") else gradient)

    def _bad(self, what) -> bool:
        return self.what == what and len(self.seen) in self.spoiled

    def bound(self) -> torch.Tensor:
        self.seen.append(self.x.detach().clone())
        self.n_seen += 1
        bound = -self.scale * (self.x - 1).square().sum().expand(N_CELLS)
        return bound * torch.nan if self._bad("bound") else bound

    def loss(self, batch, *, kl_weight=1.0, free_bits=0.0) -> Loss:
        bound = self.bound()
        return Loss(-bound.mean(), {"reconstruction_loss": -bound.detach()})


@dataclass
class Course:
    """What a trainer did."""

    n_steps: int
    n_skipped: int
    error: NotFiniteError | None
    reason: str


def by_ascent(module, n_steps, learning_rate=0.1, device=None) -> Course:
    def step(cells, batch):
        bound = module.bound()
        (-bound.mean()).backward()
        return bound.detach()

    batches, error = itertools.repeat((np.arange(N_CELLS), None)), None
    try:
        ascent = ascend(step, module, batches, n_steps=n_steps, learning_rate=learning_rate, device=device)
    except NotFiniteError as failure:
        ascent, error = failure.ascent, failure
    return Course(ascent.n_steps, ascent.n_skipped, error, ascent.reason)


def by_epochs(module, n_steps, learning_rate=0.1) -> Course:
    """Epochs of one step each."""
    data = CountData(np.ones((N_CELLS, 2)), np.zeros(N_CELLS), np.ones((N_CELLS, 1)))
    options = TrainingOptions(
        max_epochs=n_steps, learning_rate=learning_rate, validation_size=0.0, kl_warmup=0.0, gradient_clip=10.0
    )
    result = train_by_gradients(module, data, options, device=DeviceOptions("cpu"), progress=False)
    return Course(result.n_steps, result.n_skipped, result.failure, result.reason)


TRAINERS = {"ascent": by_ascent, "epochs": by_epochs}
