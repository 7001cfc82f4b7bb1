"""Softmax regression with a normal distribution over its weights, by a deterministic bound of the log-evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from ._weights import COVARIANCES, CovarianceName, WeightCovariance, blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Variance of the prior of intercepts, logits squared: shares of classes from e⁻³⁰ on are within three deviations.
INTERCEPT_VARIANCE = 100.0
#: Steps of the means between two updates of the covariance.
_STEPS = 12
#: Part of a step of the curvature that is taken: where it is large, the next one is small.
_PART = 0.5
#: Power of a step of the prior's variance, and the range of its root, logits per feature.
_LONGER, _SCALES = 1.8, (1e-4, 1e4)
#: Cells, of more than twice as many, that a fit starts with.
_FIRST = 10_000


@dataclass
class LabelWeights:
    """What was fitted.

    Attributes
    ----------
    mean
        Of the weights, f × C, those of the intercept in the first row.
    covariance
        Of the weights.
    prior_variance
        s² of weights other than intercepts, logits² per feature².
    bound
        Of log p(labels | features, s²), nats.
    history
        Bound after each iteration.
    converged
        Whether the last iteration changed it by less than the tolerance.
    """

    mean: Floats
    covariance: WeightCovariance
    prior_variance: float
    bound: float
    history: list[float] = field(default_factory=list)
    converged: bool = False


@dataclass
class _Cells:
    """Features (n × f), codes of labels (n) and weights (n) of cells."""

    features: Floats
    labels: NDArray[np.intp]
    weights: Floats


@dataclass
class _State:
    """Where a fit is: means, what is known of the curvature, and the prior's variance."""

    mean: Floats
    curvature: Floats
    variance: float


def expected_log_probability(logits: Floats, spread: Floats, labels: NDArray[np.intp]) -> tuple[Floats, Floats]:
    r"""Lower bound of E log softmax(a)_y for normal logits a with means m (n), and softmax(m + u / 2), its slope by them (n × C).

    .. math:: \mathrm{E} \log \textstyle\sum_c e^{a_c} \le \log \sum_c e^{m_c + u_c / 2}, \quad u_c = \mathrm{Var}(a_c - t^\top a)

    for every t. At t = softmax(m + u / 2) it is exact to second order in the variances.

    References
    ----------
    D. A. Knowles and T. P. Minka (2011), Non-conjugate variational message passing for multinomial and binary regression, NIPS, for independent logits.
    """
    tilted = logits + spread / 2
    highest = tilted.max(1)
    powers = np.exp(tilted - highest[:, None])
    total = powers.sum(1)
    powers /= total[:, None]
    return logits[np.arange(len(labels)), labels] - np.log(total) - highest, powers


def evidence_bound(
    features: Floats,
    labels: NDArray[np.intp],
    weights: Floats,
    mean: Floats,
    covariance: WeightCovariance,
    prior_variance: float,
) -> float:
    """Σ_i w_i E log p(y_i | x_i, W) − KL(q(W) ‖ p(W)), nats: a lower bound of log p(y | x, s²).

    The divergence is counted once. Of b of N cells, weights N / b make the first term that of all, on average.
    """
    logits = features @ mean
    value, _ = expected_log_probability(logits, covariance.spread(features, logits), labels)
    return float(weights @ value) - divergence(mean, covariance, prior_precision(mean.shape, prior_variance))


def divergence(mean: Floats, covariance: WeightCovariance, precision: Floats) -> float:
    """KL(N(μ, Σ) ‖ N(0, P₀⁻¹)), nats, of diagonal P₀ (f × C)."""
    second = precision * (mean**2 + covariance.variance)
    return 0.5 * float(second.sum() - mean.size - np.log(precision).sum() - covariance.log_det)


def prior_precision(shape: tuple[int, ...], variance: float) -> Floats:
    """P₀ (f × C): 1 / s², and that of intercepts in the first row."""
    precision = np.full(shape, 1 / variance)
    precision[0] = 1 / INTERCEPT_VARIANCE
    return precision


def fit_label_weights(
    features: Floats,
    labels: NDArray[np.intp],
    n_classes: int,
    weights: Floats | None = None,
    *,
    covariance: CovarianceName = "full",
    prior_variance: float | None = None,
    max_iter: int = 100,
    tol: float = 1e-5,
    on_iteration: Callable[[int, float], object] = lambda number, value: None,
) -> LabelWeights:
    r"""Fit q(W) = N(μ, Σ) to labels, y_i ~ Categorical(softmax(Wᵀx_i)), W ~ N(0, s²), maximising `evidence_bound` over μ, Σ and s².

    Alternates between Σ⁻¹ = P₀ + Σ_i w_i (diag g_i − g_i g_iᵀ) ⊗ x_i x_iᵀ, where the bound's slope by Σ is zero; μ, a concave problem, by limited-memory BFGS in
    coordinates in which Σ is the identity; and s² = mean(μ² + Σ_jj). There are no draws, so that equal data give equal fits. Of more than 20,000 cells, it
    starts with 10,000 of them.

    Parameters
    ----------
    features
        x (n × f), the first column of ones.
    labels
        Codes (n).
    n_classes
        C.
    weights
        Of cells; 1 by default.
    covariance
        Family of Σ.
    prior_variance
        s²; by default the one at which the bound is highest.
    max_iter
        Most iterations.
    tol
        It ends when an iteration changes the bound by less than this, nats per cell.
    on_iteration
        Called after each with its number and the bound, nats per cell.

    Examples
    --------
    >>> x = np.column_stack([np.ones(6), [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]])
    >>> fit = fit_label_weights(x, np.array([0, 0, 1, 0, 1, 1]), 2)
    >>> fit.converged, fit.mean.shape
    (True, (2, 2))
    """
    cells = _Cells(features, labels, np.ones(len(labels)) if weights is None else weights)
    shape = (features.shape[1], n_classes)
    variance = 1.0 if prior_variance is None else prior_variance
    equal = np.full((len(labels), n_classes), 1 / n_classes)
    state = _State(np.zeros(shape), COVARIANCES[covariance].curvature(features, equal, cells.weights), variance)
    learned = prior_variance is None
    if len(labels) > 2 * _FIRST:
        some = np.random.default_rng(0).choice(len(labels), _FIRST, replace=False)
        share = cells.weights.sum() / cells.weights[some].sum()
        first = _Cells(features[some], labels[some], cells.weights[some] * share)
        _run(first, state, covariance, max_iter, tol, learned=learned, on_iteration=on_iteration)
    return _run(cells, state, covariance, max_iter, tol, learned=learned, on_iteration=on_iteration)


def _run(
    cells: _Cells,
    state: _State,
    covariance: CovarianceName,
    max_iter: int,
    tol: float,
    *,
    learned: bool,
    on_iteration: Callable[[int, float], object],
) -> LabelWeights:
    """Iterate until the bound stands still; the state goes along."""
    family, total = COVARIANCES[covariance], max(float(cells.weights.sum()), 1.0)
    found = family.of(state.curvature, prior_precision(state.mean.shape, state.variance))
    logits = cells.features @ state.mean
    spread = found.spread(cells.features, logits)
    history: list[float] = []
    while True:
        state.mean = _best_mean(cells, spread, prior_precision(state.mean.shape, state.variance), state.mean, found)
        logits = cells.features @ state.mean
        spread = found.spread(cells.features, logits)
        value, probabilities = expected_log_probability(logits, spread, cells.labels)
        prior = prior_precision(state.mean.shape, state.variance)
        history.append(float(cells.weights @ value) - divergence(state.mean, found, prior))
        on_iteration(len(history), history[-1] / total)
        converged = len(history) > 1 and abs(history[-1] - history[-2]) < tol * total
        if converged or len(history) == max_iter:
            return LabelWeights(state.mean, found, state.variance, history[-1], history, converged)
        if learned:
            state.variance *= (_best_variance(state.mean, found) / state.variance) ** _LONGER
        state.curvature += _PART * (family.curvature(cells.features, probabilities, cells.weights) - state.curvature)
        found = family.of(state.curvature, prior_precision(state.mean.shape, state.variance))


def _best_mean(cells: _Cells, spread: Floats, precision: Floats, mean: Floats, covariance: WeightCovariance) -> Floats:
    """μ = μ₀ + L θ that maximises Σ_i w_i (m_iy − log Σ_c exp(m_ic + u_ic / 2)) − ½ Σ P₀ μ²."""

    def loss(theta: Floats) -> tuple[float, Floats]:
        at = mean + covariance.scaled(theta.reshape(mean.shape))
        total, slope = 0.5 * float((precision * at**2).sum()), precision * at
        for rows in blocks(*spread.shape):
            x, labels, weights = cells.features[rows], cells.labels[rows], cells.weights[rows]
            value, residual = expected_log_probability(x @ at, spread[rows], labels)
            residual[np.arange(len(labels)), labels] -= 1
            residual *= weights[:, None]
            slope += x.T @ residual
            total -= float(weights @ value)
        return total, covariance.scaled_back(slope).ravel()

    options = {"maxiter": _STEPS, "ftol": 1e-12, "gtol": 1e-6}
    best = minimize(loss, np.zeros(mean.size), jac=True, method="L-BFGS-B", options=options)
    return mean + covariance.scaled(best.x.reshape(mean.shape))


def _best_variance(mean: Floats, covariance: WeightCovariance) -> float:
    """s² = mean(μ² + Σ_jj) of weights other than intercepts."""
    return float(np.clip((mean[1:] ** 2 + covariance.variance[1:]).mean(), _SCALES[0] ** 2, _SCALES[1] ** 2))
