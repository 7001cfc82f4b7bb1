"""How many components, and what they have to do with the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy

from ._model import MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def bic(log_likelihood: float, n_parameters: int, n: float) -> float:
    """−2 log L + k log n, as scikit-learn's: less is better (Schwarz, 1978)."""
    return -2 * log_likelihood + n_parameters * float(np.log(n))


def icl(log_likelihood: float, n_parameters: int, weights: Floats, responsibilities: Floats) -> float:
    """BIC + twice the entropy of the responsibilities: less is better (Biernacki, Celeux and Govaert, 2000)."""
    entropy = -weights @ xlogy(responsibilities, responsibilities).sum(1)
    return bic(log_likelihood, n_parameters, float(weights.sum())) + 2 * float(entropy)


def mutual_information(responsibilities: Floats, labels: NDArray[np.intp], weights: Floats, n_classes: int) -> float:
    """I(z; y) in nats, by p(k, c) = Σ_i w_i τ_ik 1(y_i = c) / Σ_i w_i over rows with a label; 0 without any.

    Zero: components say nothing of labels. The entropy of y: a component has rows of one class, and classifiers nothing to do.

    Examples
    --------
    >>> round(mutual_information(np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 1]), np.ones(4), 2), 3)
    0.693
    """
    known = labels != MISSING
    if not known.any():
        return 0.0
    indicators = np.eye(n_classes)[labels[known]]
    joint = (responsibilities[known] * weights[known, None]).T @ indicators
    joint = joint / joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return max(float((xlogy(joint, joint) - xlogy(joint, independent)).sum()), 0.0)


def entropy(labels: NDArray[np.intp], weights: Floats, n_classes: int) -> float:
    """H(y) in nats, over rows with a label."""
    known = labels != MISSING
    shares = np.bincount(labels[known], weights[known], minlength=n_classes)
    shares = shares / max(shares.sum(), 1e-300)
    return float(-xlogy(shares, shares).sum())
