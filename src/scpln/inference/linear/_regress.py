"""Linear regression with a normal distribution over its weights: closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_solve, cholesky

from ._classify import prior_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._weights import CovarianceName

    Floats = NDArray[np.float64]

#: Least variance of noise, of values with variance 1.
_LEAST_NOISE = 1e-10


@dataclass
class ValueWeights:
    """What was fitted.

    Attributes
    ----------
    mean
        Of the weights (f).
    covariance
        Of the weights (f × f); diagonal of independent ones.
    prior_variance, noise_variance
        s² and σ².
    bound
        Log-evidence log p(y | x, s², σ²), or its bound by independent weights, nats.
    converged
        Whether s² and σ² stood still.
    """

    mean: Floats
    covariance: Floats
    prior_variance: float
    noise_variance: float
    bound: float
    converged: bool = True


def fit_value_weights(
    features: Floats,
    values: Floats,
    *,
    covariance: CovarianceName = "full",
    prior_variance: float | None = None,
    noise_variance: float | None = None,
    max_iter: int = 1000,
    tol: float = 1e-8,
) -> ValueWeights:
    r"""Weights of y ~ N(wᵀx, σ²), w ~ N(0, s²): Λ = P₀ + XᵀX / σ², μ = Λ⁻¹ Xᵀy / σ², Σ = Λ⁻¹.

    Independent weights have the same μ and the variances 1 / Λ_jj; their bound is lower by ½ (Σ log Λ_jj − log |Λ|). Variances that are not given are those of the highest
    evidence, s² = Σ μ² / γ and σ² = ‖y − Xμ‖² / (n − γ), with the number γ of weights that the data say (MacKay, 1992).

    Parameters
    ----------
    features
        x (n × f), the first column of ones.
    values
        y (n).
    covariance
        Family of Σ.
    prior_variance, noise_variance
        s² and σ²; by default the best ones.
    max_iter, tol
        Most steps of these, and the relative change at which they end.

    References
    ----------
    D. J. C. MacKay (1992), Bayesian interpolation, Neural Computation 4: 415-447.

    Examples
    --------
    >>> x = np.column_stack([np.ones(5), np.arange(5.0)])
    >>> fit = fit_value_weights(x, 2 * np.arange(5.0), prior_variance=100.0, noise_variance=0.01)
    >>> fit.mean.round(2).tolist()
    [0.0, 2.0]
    """
    n, f = features.shape
    gram, product, squares = features.T @ features, features.T @ values, float(values @ values)
    s2 = 1.0 if prior_variance is None else prior_variance
    noise = 0.5 if noise_variance is None else noise_variance
    is_given = prior_variance is not None and noise_variance is not None
    converged = is_given
    for _ in range(1 if is_given else max_iter):
        before = s2, noise
        precision = prior_precision((f, 1), s2)[:, 0]
        inverse, mean = _posterior(gram / noise, precision, product / noise)
        known = 1 - precision * np.diag(inverse)
        if is_given:
            break
        if prior_variance is None and f > 1:
            s2 = float(np.clip((mean[1:] ** 2).sum() / max(known[1:].sum(), 1e-12), 1e-12, 1e12))
        if noise_variance is None:
            residual = squares - 2 * mean @ product + mean @ gram @ mean
            noise = max(float(residual) / max(n - known.sum(), 1e-12), _LEAST_NOISE)
        if abs(np.log(s2 / before[0])) + abs(np.log(noise / before[1])) < tol:
            converged = True
            break
    precision = prior_precision((f, 1), s2)[:, 0]
    inverse, mean = _posterior(gram / noise, precision, product / noise)
    residual = squares - 2 * mean @ product + mean @ gram @ mean
    full = np.diag(precision) + gram / noise
    log_det = float(np.linalg.slogdet(full)[1])
    quadratic = residual / noise + (precision * mean**2).sum() + n * np.log(2 * np.pi * noise)
    bound = -0.5 * float(quadratic - np.log(precision).sum() + log_det)
    if covariance == "diagonal":
        own = np.diag(full)
        bound, inverse = bound - 0.5 * (float(np.log(own).sum()) - log_det), np.diag(1 / own)
    return ValueWeights(mean, inverse, s2, noise, bound, converged)


def _posterior(information: Floats, precision: Floats, product: Floats) -> tuple[Floats, Floats]:
    """Covariance and mean of the weights."""
    factor = cholesky(information + np.diag(precision), lower=True)
    return cho_solve((factor, True), np.eye(len(factor))), cho_solve((factor, True), product)
