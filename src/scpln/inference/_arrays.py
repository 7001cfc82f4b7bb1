"""Types of the arrays that the mathematics passes around."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Real numbers, in float64 unless they belong to a cell and `DType` is float32.
Array = NDArray[Any]
#: Precision in which cells are computed.
DType = type[np.float32] | type[np.float64]
