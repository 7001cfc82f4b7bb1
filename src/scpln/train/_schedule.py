"""The learning rate of each step: a linear warm-up, then a cosine."""

from __future__ import annotations

import math

#: Steps over which the learning rate rises.
WARM_UP = 20


def warmup_cosine(step: int, n_steps: int) -> float:
    """Share of the largest learning rate that a step takes, counted from 0, of `n_steps` that are planned.

    It rises linearly over 20 steps, and falls to 0 over all of them like a cosine.

    Examples
    --------
    >>> [round(warmup_cosine(step, 1000), 2) for step in (0, 9, 19, 500, 1000)]
    [0.05, 0.5, 1.0, 0.5, 0.0]
    """
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / n_steps)))
