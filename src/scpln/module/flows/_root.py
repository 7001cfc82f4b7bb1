"""Inverse of a scalar planar map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Halvings of the interval that holds the solution: down to float64's precision.
_BISECTIONS = 60


def solve_increasing(target: Tensor, outer: Tensor, inner: Tensor | float, shift: Tensor) -> Tensor:
    r"""Solve :math:`v + r \tanh(\tilde r v + b) = y` for v, where the left side rises with v (:math:`r \tilde r > -1`).

    By bisection of y ± |r|, which cannot fail and costs no derivative.

    Parameters
    ----------
    target, outer, inner, shift
        y, r, r̃ and b, of shapes that broadcast.

    Examples
    --------
    >>> v = torch.tensor([0.3, -2.0], dtype=torch.float64)
    >>> solve_increasing(v + 0.5 * torch.tanh(2 * v + 1), torch.tensor(0.5), torch.tensor(2.0), torch.tensor(1.0))
    tensor([ 0.3000, -2.0000], dtype=torch.float64)
    """
    low, high = target - outer.abs(), target + outer.abs()
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = middle + outer * torch.tanh(inner * middle + shift) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return 0.5 * (low + high)
