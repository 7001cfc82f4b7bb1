"""Stochastic gradient ascent on a bound: Adam with a warm-up and a cosine decay, and a guard against what is not finite."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from ._device import AnyBatch, batch_to, on_device
from ._gradients import clip_gradients, gradient_norms, named_gradients, trained_parameters
from ._guard import FiniteGuard, find_nonfinite
from ._schedule import warmup_cosine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from torch import nn

    from ._result import Ascent


#: Largest norm of the gradient of a step.
_LARGEST_NORM = 10.0
#: Steps that one entry of the history averages over.
_HISTORY_STEPS = 10


def ascend(
    step: Callable[[NDArray[np.intp], AnyBatch], torch.Tensor],
    module: nn.Module,
    batches: Iterable[tuple[NDArray[np.intp], AnyBatch]],
    *,
    n_steps: int,
    learning_rate: float,
    on_step: Callable[[int, float], None] | None = None,
    device: torch.device | str | None = None,
) -> Ascent:
    """Move the parameters of a module that require gradients, `n_steps` times.

    Parameters
    ----------
    step
        Given positions of cells and their batch, adds the gradient of minus the mean bound to the parameters, and
        returns the bound of each cell (n,).
    module
        Its parameters are moved, in place.
    batches
        Positions and batches, at least `n_steps` of them.
    learning_rate
        Of Adam, at its largest.
    on_step
        Called with the number of steps and the mean bound per cell.
    device
        Where to compute: module and batches are moved there, and the module back to the CPU in the end. By default,
        where they are.

    Raises
    ------
    NotFiniteError
        The bound or its gradient was not finite in several steps in a row. The parameters are the last good ones.

    Examples
    --------
    >>> import numpy as np, torch
    >>> module = torch.nn.Linear(1, 1, bias=False)
    >>> def step(cells, batch):
    ...     bound = -(module.weight - batch).square()
    ...     (-bound).mean().backward()
    ...     return bound.detach()[0]
    >>> batches = [(np.arange(1), torch.ones(1, 1))] * 300
    >>> ascend(step, module, batches, n_steps=300, learning_rate=0.1).reason
    '300 stochastic steps'
    >>> round(module.weight.item(), 2)
    1.0
    """
    with on_device(module, device):
        trained = trained_parameters(module)
        optimizer = torch.optim.Adam(trained.values(), lr=learning_rate, fused=True)
        guard = FiniteGuard(module)
        result, begin, recent = guard.ascent, time.perf_counter(), list[float]()

        def record() -> None:
            if recent:
                result.bound.append(float(np.mean(recent)))
                result.seconds.append(time.perf_counter() - begin)
                recent.clear()

        try:
            for cells, batch in islice(batches, n_steps):
                optimizer.param_groups[0]["lr"] = learning_rate * warmup_cosine(result.n_steps, n_steps)
                optimizer.zero_grad(set_to_none=True)
                bound = step(cells, batch_to(batch, device))
                gradients = named_gradients(trained)
                norm = torch.linalg.vector_norm(gradient_norms(gradients.values()))
                finite = bool(torch.isfinite(bound).all() & torch.isfinite(norm))
                if guard.accepts(finite, partial(find_nonfinite, cells, bound, gradients)):
                    clip_gradients(gradients.values(), norm, _LARGEST_NORM)
                    optimizer.step()
                    recent.append(float(bound.mean()))
                if len(recent) == _HISTORY_STEPS:
                    record()
                    if on_step is not None:
                        on_step(result.n_steps, result.bound[-1])
        except KeyboardInterrupt:
            result.interrupted = True
        finally:
            record()
    return result
