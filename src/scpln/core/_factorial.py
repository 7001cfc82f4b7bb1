"""log y! of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    import scipy.sparse as sp

    from ._arrays import Array

_TABLE = gammaln(np.arange(1024) + 1.0)


def log_factorial_sums(counts: sp.csr_matrix) -> Array:
    """Σ_j log y_ij! of every row, (n,); zeros contribute nothing."""
    values = np.asarray(counts.data)
    small = values < len(_TABLE)
    terms = _TABLE[np.where(small, values, 0).astype(np.intp)]
    if not small.all():
        terms[~small] = gammaln(values[~small] + 1.0)
    cumulative = np.concatenate([[0.0], np.cumsum(terms)])
    return np.diff(cumulative[counts.indptr])
