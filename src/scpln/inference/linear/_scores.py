"""What predicted probabilities are worth: accuracy, log score, Brier score, calibration, and risk by coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.intp]

#: Least probability of which a logarithm is taken.
_LEAST = 1e-12
#: Bins of confidence.
N_BINS = 15


def label_scores(probabilities: Floats, codes: Codes) -> dict[str, float]:
    """Scores of probabilities (n × C) of cells with these labels (n).

    Returns
    -------
    ``accuracy``; ``macro_f1``, over labels that cells have; ``log_score``, mean log p(y), nats, higher is better; ``brier``, mean Σ_c (p_c − 1(y = c))², and ``ece``, the expected
    calibration error of 15 bins of confidence, lower is better.

    Examples
    --------
    >>> label_scores(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0]))["accuracy"]
    0.5
    """
    best, rows = probabilities.argmax(1), np.arange(len(codes))
    own = probabilities[rows, codes]
    n_classes = probabilities.shape[1]
    right = np.bincount(codes[best == codes], minlength=n_classes)
    both = np.bincount(codes, minlength=n_classes) + np.bincount(best, minlength=n_classes)
    present = np.unique(codes)
    table = reliability_table(probabilities.max(1), best == codes)
    off = (table["confidence"] - table["accuracy"]).abs() * table["n_cells"]
    return {
        "accuracy": float((best == codes).mean()),
        "macro_f1": float((2 * right[present] / both[present]).mean()),
        "log_score": float(np.log(np.maximum(own, _LEAST)).mean()),
        "brier": float(((probabilities**2).sum(1) - 2 * own + 1).mean()),
        "ece": float(off.sum() / len(codes)),
    }


def reliability_table(confidence: Floats, is_right: NDArray[np.bool_], n_bins: int = N_BINS) -> pd.DataFrame:
    """Mean confidence, accuracy and cells in bins (l, h] of equal width that have some.

    Parameters
    ----------
    confidence
        Probability of the predicted label (n).
    is_right
        Whether it is the cell's (n).
    n_bins
        Bins from 0 to 1.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger (2017), On calibration of modern neural networks, ICML.

    Examples
    --------
    >>> reliability_table(np.array([0.95, 0.85, 0.3]), np.array([True, False, True]), 2).to_numpy().round(2).tolist()
    [[0.0, 0.5, 0.3, 1.0, 1.0], [0.5, 1.0, 0.9, 0.5, 2.0]]
    """
    number = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    n = np.bincount(number, minlength=n_bins)
    used = np.flatnonzero(n)
    return pd.DataFrame(
        {
            "lower": used / n_bins,
            "upper": (used + 1) / n_bins,
            "confidence": np.bincount(number, confidence, n_bins)[used] / n[used],
            "accuracy": np.bincount(number, is_right, n_bins)[used] / n[used],
            "n_cells": n[used],
        }
    )


def risk_coverage_table(confidence: Floats, is_right: NDArray[np.bool_]) -> pd.DataFrame:
    """Share of cells that are at least so sure, and share of errors among these, from the surest on.

    Cells of equal confidence are taken together.

    References
    ----------
    Y. Geifman and R. El-Yaniv (2017), Selective classification for deep neural networks, NIPS.

    Examples
    --------
    >>> risk_coverage_table(np.array([0.9, 0.8, 0.8, 0.5]), np.array([True, True, False, False])).round(
    ...     2
    ... ).values.tolist()
    [[0.9, 0.25, 0.0], [0.8, 0.75, 0.33], [0.5, 1.0, 0.5]]
    """
    order = np.argsort(-confidence, kind="stable")
    sure, n = confidence[order], np.arange(1, len(order) + 1)
    last = np.flatnonzero(np.r_[sure[1:] != sure[:-1], True])
    errors = np.cumsum(~is_right[order])
    return pd.DataFrame(
        {"threshold": sure[last], "coverage": n[last] / len(order), "risk": errors[last] / n[last]},
    )
