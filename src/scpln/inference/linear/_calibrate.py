"""Temperature, thresholds of abstention and conformal sets, from cells that a fit has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.intp]

#: Range of the logarithm of the temperature.
_RANGE = (-3.0, 3.0)


def best_temperature(log_score: Callable[[float], float]) -> float:
    """T of the highest mean log probability, which is given by temperature.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger (2017), On calibration of modern neural networks, ICML.

    Examples
    --------
    >>> round(best_temperature(lambda t: -((t - 2) ** 2)), 2)
    2.0
    """
    found = minimize_scalar(
        lambda log_t: -log_score(float(np.exp(log_t))), bounds=_RANGE, method="bounded", options={"xatol": 1e-3}
    )
    return float(np.exp(found.x))


def abstention_threshold(confidence: Floats, is_right: NDArray[np.bool_], target_error: float) -> float:
    """Least confidence at which (errors + 1) / (cells + 1) of the cells that are at least so sure is the target at most; infinite if there is none.

    Parameters
    ----------
    confidence, is_right
        Of held-out cells (n), as in `reliability_table`.
    target_error
        Share of errors among cells that get a label.

    Examples
    --------
    >>> abstention_threshold(np.linspace(0, 1, 101), np.arange(101) > 30, 0.1)
    0.25
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    last = np.r_[sure[1:] != sure[:-1], True]
    risk = (np.cumsum(~is_right[order]) + 1) / (np.arange(len(order)) + 2)
    allowed = np.flatnonzero(last & (risk <= target_error))
    return float(sure[allowed[-1]]) if len(allowed) else float("inf")


def conformal_quantile(scores: Floats, error: float) -> float:
    """The ⌈(n + 1)(1 − α)⌉-th smallest score of n held-out cells; infinite of too few, and −∞ if all may be missed.

    A new cell that is exchangeable with these has a score up to it with probability 1 − α or more, whatever the model is.

    References
    ----------
    M. Sadinle, J. Lei and L. Wasserman (2019), Least ambiguous set-valued classifiers with bounded error levels, JASA 114: 223-234.

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 20.0), 0.1), conformal_quantile(np.arange(5.0), 0.1)
    (18.0, inf)
    """
    rank = int(np.ceil((len(scores) + 1) * (1 - error) - 1e-9))
    if rank < 1:
        return float("-inf")
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else float("inf")


def label_sets(
    probabilities: Floats, own: Floats, codes: Codes, error: float, *, by_class: bool = False
) -> NDArray[np.bool_]:
    """Which labels are in each cell's set (n × C): those with 1 − p_c up to the conformal quantile.

    Parameters
    ----------
    probabilities
        Of new cells (n × C).
    own, codes
        Of held-out cells, the probability of their label and its code (m).
    error
        α, the share of cells whose label may lack.
    by_class
        Whether that holds for the cells of each label by itself. A label with fewer than 1 / α − 1 held-out cells is in every set.
    """
    n_classes = probabilities.shape[1]
    parts = [1 - own[codes == c] for c in range(n_classes)] if by_class else [1 - own] * n_classes
    limits = np.array([conformal_quantile(part, error) for part in parts])
    return 1 - probabilities <= limits
