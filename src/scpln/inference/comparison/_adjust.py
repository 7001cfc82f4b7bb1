"""Many tests at once: adjusted p values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def benjamini_hochberg(p_values: NDArray[np.float64], tested: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Adjusted p values (p,): calling those below α keeps the expected share of false discoveries below α.

    Parameters
    ----------
    p_values
        Of each gene.
    tested
        Genes that could have been found; the others have 1 and do not count. By default all.

    References
    ----------
    Y. Benjamini and Y. Hochberg (1995), Controlling the false discovery rate: a practical and powerful approach to multiple
    testing, Journal of the Royal Statistical Society B 57: 289-300.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.5, 0.02, 1.0]))
    array([0.04      , 0.66666667, 0.04      , 1.        ])
    """
    chosen = np.arange(len(p_values)) if tested is None else np.flatnonzero(tested)
    order = chosen[np.argsort(p_values[chosen], kind="stable")]
    scaled = p_values[order] * (len(order) / np.arange(1, len(order) + 1))
    adjusted = np.ones(len(p_values))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted
