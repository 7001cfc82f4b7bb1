"""Real values in the unit of their own spread."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scpln.core import threads

from ._factor_analysis import Residuals

if TYPE_CHECKING:
    from scpln.core import CountData


class _ScaledRows:
    """Rows on disk, divided by a unit when they are read."""

    def __init__(self, values: Any, unit: float) -> None:
        self._values, self._unit, self.shape = values, unit, values.shape

    def __getitem__(self, rows: Any) -> Any:
        return self._values[rows] / self._unit


def in_unit(data: CountData, unit: float) -> CountData:
    """The same data with values and offsets divided by `unit`; a copy in memory, or read from disk as before."""
    if unit == 1:
        return data
    values = data.counts
    in_memory = isinstance(values, np.ndarray) or sp.issparse(values)
    scaled = values / unit if in_memory else _ScaledRows(values, unit)
    entries = None if data.entries is None else data.entries.divided(unit)
    return replace(data, counts=scaled, offsets=data.offsets / unit, entries=entries)


def residual_log_spread(data: CountData) -> float:
    """Logarithm of the root mean square of residuals of all values from a regression on the design; 0 if there are none."""
    with threads(1) as pool:
        residuals = Residuals.of(data, pool, data.block_size())
    largest = residuals.variance.max()
    if not largest > 0:
        return 0.0
    return 0.5 * float(np.log(largest) + np.log((residuals.variance / largest).mean()))
