"""Types of the arrays that the mathematics passes around."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

#: Real numbers, in float64 unless they belong to a cell and `DType` is float32.
Array = NDArray[Any]
#: Precision in which cells are computed.
DType = type[np.float32] | type[np.float64]
#: Counts of some cells: compressed, or dense.
Rows: TypeAlias = sp.csr_matrix | NDArray[Any]
