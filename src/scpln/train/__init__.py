"""Training by stochastic gradients: ascent on a bound, amortisation, refinement. Lightning is in `scpln.train.epochs` only."""

from ._amortize import distill_gaussians, divergence, standardize_context, train_approximation
from ._ascent import ascend
from ._guard import NotFiniteError
from ._minibatches import RUN, Minibatches, SimulatedBatches, as_batch, random_order
from ._refine import refine
from ._result import Ascent
from ._torch_state import torch_random, torch_threads

__all__ = [
    "RUN",
    "Ascent",
    "Minibatches",
    "NotFiniteError",
    "SimulatedBatches",
    "as_batch",
    "ascend",
    "distill_gaussians",
    "divergence",
    "random_order",
    "refine",
    "standardize_context",
    "torch_random",
    "torch_threads",
    "train_approximation",
]
