"""The classifier of a component: logistic regression, or softmax of more than two classes, with weighted rows and a prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._special import log_sum_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Halvings of a step.
_HALVINGS = 30
#: Share of the objective by which it may fall by rounding.
_ROUNDING = 1e-13
#: Rows of less weight add nothing that could be seen.
_NOTHING = 1e-14


def n_rows(n_classes: int) -> int:
    """Rows of coefficients: one of two classes, of the second against the first; one for each of more."""
    return 1 if n_classes == 2 else n_classes


def log_probabilities(features: Floats, coefficients: Floats) -> Floats:
    """Log p(y = c | x), n × C, of coefficients (R × f)."""
    logits = features @ coefficients.T
    if len(coefficients) == 1:
        return np.column_stack([-np.logaddexp(0, logits[:, 0]), -np.logaddexp(0, -logits[:, 0])])
    return logits - log_sum_exp(logits)


def log_prior(coefficients: Floats, scale: float) -> float:
    """−½ ‖W / s‖² of all coefficients but the first of each row, the intercept."""
    return float(-0.5 * ((coefficients[..., 1:] / scale) ** 2).sum())


def fit_logistic(
    features: Floats,
    labels: NDArray[np.intp],
    weights: Floats,
    coefficients: Floats,
    *,
    scale: float = 2.5,
    max_steps: int = 100,
    tol: float = 1e-10,
) -> Floats:
    r"""Maximise Σ_i τ_i log p(y_i | x_i) − ½ ‖W / s‖² by iteratively reweighted least squares.

    Newton steps, halved until the objective does not fall. It is concave and, with the prior, has its maximum at finite weights also where classes are
    separated. Two classes have one row of coefficients; more have a row each, whose intercepts add up to what they did at the start.

    Parameters
    ----------
    features
        Columns of the design (n × f), the first of ones.
    labels
        Codes of classes (n).
    weights
        τ (n).
    coefficients
        Start (R × f).
    scale
        s; infinite for maximum likelihood.
    max_steps
        Most steps.
    tol
        It ends when a step promises less than this, nats for each unit of weight.

    Returns
    -------
    Coefficients (R × f).

    Examples
    --------
    >>> x = np.column_stack([np.ones(4), [0.0, 1.0, 2.0, 3.0]])
    >>> fit_logistic(x, np.array([0, 0, 1, 1]), np.ones(4), np.zeros((1, 2))).round(2).tolist()
    [[-3.32, 2.21]]
    """
    active = weights > _NOTHING
    features, labels, weights = features[active], labels[active], weights[active]
    shape, rows = coefficients.shape, np.arange(len(labels))
    total = weights.sum()

    def objective(coefficients: Floats) -> tuple[float, Floats]:
        log_p = log_probabilities(features, coefficients)
        return float(weights @ log_p[rows, labels]) + log_prior(coefficients, scale), log_p

    value, log_p = objective(coefficients)
    for _ in range(max_steps):
        slope = (
            score(features, labels, weights, log_p, len(coefficients)) - prior_precision(shape, scale) * coefficients
        )
        change = np.linalg.solve(information(features, weights, log_p, shape, scale), slope.ravel()).reshape(shape)
        if float((slope * change).sum()) <= tol * total:
            break
        for _ in range(_HALVINGS):
            reached, new_log_p = objective(coefficients + change)
            if reached >= value - _ROUNDING * (abs(value) + total):
                coefficients, value, log_p = coefficients + change, reached, new_log_p
                break
            change = change / 2
        else:
            break
    return coefficients


def prior_precision(shape: tuple[int, ...], scale: float) -> Floats:
    """Second derivatives of the negative prior, for each coefficient."""
    precision = np.full(shape, scale**-2.0)
    precision[..., 0] = 0
    return precision


def residuals(labels: NDArray[np.intp], log_p: Floats, n: int) -> Floats:
    """1(y_i = c) − p_ic, of the classes that have coefficients (n × R)."""
    found = -np.exp(log_p)
    found[np.arange(len(labels)), labels] += 1
    return found[:, -n:]


def score(features: Floats, labels: NDArray[np.intp], weights: Floats, log_p: Floats, n: int) -> Floats:
    """Gradient of Σ_i τ_i log p(y_i | x_i), R × f."""
    return (weights[:, None] * residuals(labels, log_p, n)).T @ features


def information(features: Floats, weights: Floats, log_p: Floats, shape: tuple[int, ...], scale: float) -> Floats:
    """Σ_i τ_i (diag p_i − p_i p_iᵀ) ⊗ x_i x_iᵀ + the prior's, (R f) × (R f); of several rows, with a term that fixes the sum of intercepts."""
    n, f = shape
    p = np.exp(log_p)[:, -n:]
    found = np.empty((n, f, n, f))
    for a in range(n):
        for b in range(a, n):
            curvature = weights * p[:, a] * ((a == b) - p[:, b])
            found[a, :, b] = (features * curvature[:, None]).T @ features
            found[b, :, a] = found[a, :, b]
    if n > 1:
        found[:, 0, :, 0] += max(float(weights.sum()), 1.0) / n
    # The least part of the largest keeps intercepts of classes that no row has solvable.
    matrix = found.reshape(n * f, n * f)
    jitter = 1e-12 * max(float(np.diag(matrix).max()), 1e-300)
    return matrix + np.diag(prior_precision(shape, scale).ravel() + jitter)
