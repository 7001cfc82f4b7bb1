"""From a cell's context to the parameters of its transforms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import nn
from zuko.nn import MLP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Hypernetwork(nn.Module):
    """Network that turns each cell's context into parameters of the given shapes, all zero at the start.

    It runs once per cell, however many draws the cell has.

    Parameters
    ----------
    n_context
        Features of the context, c.
    shapes
        Shape of each parameter, per cell.
    hidden
        Widths of the hidden layers.

    Examples
    --------
    >>> import torch
    >>> network = Hypernetwork(4, [(3,), (2, 3)], hidden=(16,))
    >>> [tuple(parameter.shape) for parameter in network(torch.randn(5, 4))]
    [(5, 3), (5, 2, 3)]
    """

    def __init__(self, n_context: int, shapes: Sequence[tuple[int, ...]], *, hidden: Sequence[int]) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.network = MLP(n_context, sum(self.sizes), hidden_features=tuple(hidden), activation=nn.SiLU)
        start_at_zero(self.network)

    def forward(self, context: Tensor) -> list[Tensor]:
        """Parameters (n, *shape) for a context (n, c)."""
        parts = self.network(context).split(self.sizes, dim=-1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True)]


def start_at_zero(network: Any) -> None:
    """Make a network's output zero: its last layer learns at once, the others as soon as that has moved."""
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
