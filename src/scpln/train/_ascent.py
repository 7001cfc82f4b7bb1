"""Stochastic gradient ascent on a bound: Adam with a warm-up and a cosine decay, and a guard against what is not finite."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from torch import nn

    from scpln.module import Batch

    Step = Callable[[NDArray[np.intp], Batch], torch.Tensor]

#: Steps over which the learning rate rises, and largest gradient norm per parameter group of a step.
_WARM_UP, _LARGEST_NORM = 20, 10.0
#: Steps in a row that may be skipped because they are not finite, and steps between copies of good parameters.
_MOST_SKIPPED, _BETWEEN_COPIES = 5, 50
#: Steps that one entry of the history averages over.
_HISTORY_STEPS = 10


class NotFiniteError(FloatingPointError):
    """Training stopped because the bound or its gradient was not finite, several steps in a row.

    Attributes
    ----------
    cells
        Positions of cells whose bound was not finite.
    parameter
        Name of the first parameter whose gradient was not finite, or an empty text.
    ascent
        What training went through until then.
    """

    def __init__(self, cells: NDArray[np.intp], parameter: str, ascent: Ascent) -> None:
        self.cells, self.parameter, self.ascent = cells, parameter, ascent
        where, look_at = f"the gradient of {parameter}", "genes with extreme counts"
        if len(cells):
            where, look_at = f"the bound of cells {cells[:5].tolist()}", "these cells"
        super().__init__(
            f"{where} was not finite in {_MOST_SKIPPED} steps in a row. The last good parameters are kept. "
            f"Try a lower learning_rate, and look at {look_at}."
        )


@dataclass
class Ascent:
    """What a stochastic training went through.

    Attributes
    ----------
    bound, seconds
        Mean bound per cell, averaged over ten steps each (the last few may be fewer), and time since the start.
    n_steps, n_skipped
        Steps taken, and steps left out because something was not finite.
    interrupted, failed
        Whether Ctrl-C ended it, or something that was not finite.
    """

    bound: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    n_steps: int = 0
    n_skipped: int = 0
    interrupted: bool = False
    failed: bool = False

    @property
    def reason(self) -> str:
        """What happened, in words."""
        if not (self.n_steps or self.interrupted):
            return "nothing was left for stochastic steps to train"
        skipped = f" ({self.n_skipped:,} of them skipped, since something was not finite)" if self.n_skipped else ""
        steps = f"{self.n_steps:,} stochastic steps{skipped}"
        if self.failed:
            return f"failed after {steps}; the last good parameters are kept"
        return f"interrupted after {steps}; what they reached is kept" if self.interrupted else steps


def ascend(
    step: Step,
    module: nn.Module,
    batches: Iterable[tuple[NDArray[np.intp], Batch]],
    *,
    n_steps: int,
    learning_rate: float,
    on_step: Callable[[int, float], None] | None = None,
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
    named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.Adam(named.values(), lr=learning_rate, fused=True)
    result, begin, recent = Ascent(), time.perf_counter(), list[float]()
    good = _copy(named)
    skipped_in_a_row = 0

    def record() -> None:
        if recent:
            result.bound.append(float(np.mean(recent)))
            result.seconds.append(time.perf_counter() - begin)
            recent.clear()

    try:
        for cells, batch in islice(batches, n_steps):
            optimizer.param_groups[0]["lr"] = learning_rate * _rate(result.n_steps, n_steps)
            optimizer.zero_grad(set_to_none=True)
            bound = step(cells, batch)
            bad_cells = cells[~torch.isfinite(bound).numpy()]
            bad = "" if len(bad_cells) else _not_finite(named)
            result.n_steps += 1
            if len(bad_cells) or bad:
                result.n_skipped += 1
                skipped_in_a_row += 1
                if skipped_in_a_row == _MOST_SKIPPED:
                    result.failed = True
                    raise NotFiniteError(bad_cells, bad, result)
            else:
                skipped_in_a_row = 0
                if (result.n_steps - 1) % _BETWEEN_COPIES == 0:
                    good = _copy(named)
                torch.nn.utils.clip_grad_norm_(named.values(), _LARGEST_NORM)
                optimizer.step()
                recent.append(float(bound.mean()))
            if len(recent) == _HISTORY_STEPS:
                record()
                if on_step is not None:
                    on_step(result.n_steps, result.bound[-1])
    except NotFiniteError:
        _restore(named, good)
        raise
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        record()
    return result


def _rate(done: int, n_steps: int) -> float:
    """Share of the learning rate after `done` steps."""
    return min(1.0, (done + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(done / n_steps, 1.0)))


def _not_finite(named: dict[str, nn.Parameter]) -> str:
    """Name of a parameter whose gradient is not finite; empty if there is none."""
    for name, parameter in named.items():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return name
    return ""


def _copy(named: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in named.items()}


@torch.no_grad()
def _restore(named: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    for name, parameter in named.items():
        parameter.copy_(values[name])
