"""What values look like that are no counts: scaled, log-normalised, normalised, transformed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from ._whole import is_no_count

#: How a diagnosis begins that says little: estimated counts of shallow cells look so, too.
TRANSFORMED = "transformed"
_CELLS_TO_DIAGNOSE = 100
_MANY, _NEARLY_ALL = 0.2, 0.9


def diagnosis(rows: Any) -> str | None:
    """What the values look like, if many of them are no counts: scaled, log-normalised, normalised, transformed."""
    sample = sp.csr_matrix(rows[: min(_CELLS_TO_DIAGNOSE, rows.shape[0])]).astype(float)
    sample.eliminate_zeros()
    bad = is_no_count(sample.data)
    if bad is None or not len(bad) or bad.mean() < _MANY:
        return None
    values = sample.data[np.isfinite(sample.data)]
    if len(values) and values.min() < 0:
        return "scaled or centred (it has negative values)"
    nearly_all = bad.mean() > _NEARLY_ALL  # of estimated counts, some are whole
    if len(values) and nearly_all and values.max() < 50 and _is_scaled_by_cell(sample, np.expm1):
        return "log-normalised (in each cell, exp(value) - 1 is proportional to whole numbers)"
    if nearly_all and _is_scaled_by_cell(sample, np.positive):
        return "normalised (in each cell, the values are proportional to whole numbers)"
    if len(values) and values.max() < 20:
        return f"{TRANSFORMED}, as by a logarithm or a root (the values are small and not whole)"
    return None


def _is_scaled_by_cell(sample: sp.csr_matrix, transform: np.ufunc) -> bool:
    """Whether the transformed values look like counts times one factor per cell.

    Either they add up to the same in every cell, or nearly all are small multiples of their cell's smallest or of a
    half, third or quarter of it, which also holds for a part of the genes.
    """
    cells = [transform(sample.data[start:stop]) for start, stop in pairwise(sample.indptr)]
    cells = [values for values in cells if len(values) and np.isfinite(values).all()]
    sums = np.array([values.sum() for values in cells])
    if len(sums) > 1 and sums.std() < 1e-3 * sums.mean():
        return True
    n_whole = n_values = 0
    for values in cells:
        ratio = values / values.min()
        multiples = ratio[(ratio > 1.001) & (ratio < 20), None] * np.arange(1, 5)
        n_whole += int((np.abs(multiples - np.rint(multiples)) < 0.03).sum(0).max(initial=0))
        n_values += len(multiples)
    return n_whole > 0.9 * n_values
