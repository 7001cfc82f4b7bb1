"""The weight of KL grows over the first steps, and the epochs that are left count for early stopping."""

from __future__ import annotations

import math


def warmup_steps(share: float, n_steps: int) -> int:
    """Steps over which the weight of KL grows: a share of those that are planned, without the last.

    Examples
    --------
    >>> [warmup_steps(share, 300) for share in (0.0, 1 / 3, 1.0)]
    [0, 100, 299]
    """
    return min(math.floor(share * n_steps), n_steps - 1)


def epochs_at_full_weight(share: float, n_epochs: int, steps_per_epoch: int) -> int:
    """Epochs in whose last step the weight of KL is 1: those that early stopping compares.

    Examples
    --------
    >>> [epochs_at_full_weight(share, 30, steps_per_epoch=10) for share in (0.0, 1 / 3, 1.0)]
    [30, 20, 1]
    """
    n_warm_up = warmup_steps(share, n_epochs * steps_per_epoch)
    return n_epochs - n_warm_up // steps_per_epoch
