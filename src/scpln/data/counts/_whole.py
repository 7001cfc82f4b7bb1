"""Which values are counts, which are nearly whole, and what rounding changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEARLY_WHOLE, NEARLY_WHOLE_RELATIVE = 1e-4, 1e-6
"""A value is nearly whole if it is as near to a whole number, absolutely and by its size together."""


LARGEST_COUNT, LARGEST_VALUE = 1e12, 1e50
"""Beyond these, rates of counts and squares of real values leave what can be computed in double precision."""


@dataclass
class Rounding:
    """What rounding does to counts: stored values, those that are not nearly whole, the largest change, and the total."""

    n_values: int = 0
    n_changed: int = 0
    largest: float = 0.0
    before: float = 0.0
    after: float = 0.0

    def add(self, block: Any, whole: Any) -> None:
        """Take in a block of values, and what they are rounded to."""
        values, result = (each.data if sp.issparse(each) else each for each in (block, whole))
        change = np.abs(values - result)
        self.n_values += values.size
        self.n_changed += int((change > leeway(values)).sum())
        self.largest = max(self.largest, float(change.max(initial=0)))
        self.before += float(values.sum(dtype=float))
        self.after += float(result.sum(dtype=float))


def leeway(values: NDArray) -> NDArray:
    """How far nearly whole values of this size may be from whole ones."""
    return NEARLY_WHOLE + NEARLY_WHOLE_RELATIVE * np.abs(values)


def is_no_count(values: NDArray) -> NDArray[np.bool_] | None:
    """Entries that are not whole numbers from 0 to the largest count; None where the type rules that out."""
    if values.dtype.kind in "bu" and values.dtype.itemsize < 8:
        return None
    if values.dtype.kind in "iu":
        return (values < 0) | (values > LARGEST_COUNT)
    with np.errstate(invalid="ignore"):
        return ~((values >= 0) & (values == np.floor(values)) & (values <= LARGEST_COUNT))


def is_no_estimate(values: NDArray) -> NDArray[np.bool_] | None:
    """Entries that are no estimates of counts: negative by more than rounding error, not finite, or too large."""
    if values.dtype.kind != "f":
        return is_no_count(values)
    with np.errstate(invalid="ignore"):
        return ~((values >= -NEARLY_WHOLE) & (values <= LARGEST_COUNT))
