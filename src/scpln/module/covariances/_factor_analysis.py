"""Factor analysis of a second moment by maximum likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from ._base import LEAST_VARIANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._base import Matrix

#: Most quasi-Newton steps, and Newton steps after them.
STEPS, NEWTON_STEPS = 200, 20
#: Least uniqueness as a share of a gene's variance, beside the least variance, and how many times that it may be if it falls and is taken for that.
LEAST_SHARE, VANISHING = 1e-9, 1e4


def maximum_likelihood(moment: Matrix, n_factors: int, start: Matrix | None = None) -> tuple[Matrix, Matrix]:
    r"""C (p, q) and ψ (p,) under which normal residuals with second moment S are most probable, :math:`\Sigma = C C^T + \text{diag}(\psi)`.

    Given ψ the best C is known [1]_: with eigenvalues λ and eigenvectors w of :math:`\psi^{-1/2} S \psi^{-1/2}`, those above 1 of the q largest make
    :math:`C_k = \psi^{1/2} w_k \sqrt{\lambda_k - 1}`. What is left is a function of log ψ,
    :math:`\sum_{k > q} (\lambda_k - \log \lambda_k - 1)`, which is minimised by L-BFGS-B and then Newton's method [2]_. A uniqueness that vanishes (a Heywood case) is left
    with a billionth of the gene's variance.

    Parameters
    ----------
    moment
        S (p, p), with a positive diagonal.
    n_factors
        q.
    start
        ψ to start from; if None, half of the variance of each gene that the others do not explain.

    References
    ----------
    .. [1] Jöreskog (1967), Some contributions to maximum likelihood factor analysis. Psychometrika 32, 443-482.
    .. [2] Clarke (1970), A rapidly convergent method for maximum-likelihood factor analysis. British Journal of Mathematical and Statistical
       Psychology 23, 43-52.

    Examples
    --------
    >>> loadings, uniquenesses = maximum_likelihood(np.array([[2.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 2.0]]), 1)
    >>> np.abs(loadings).ravel().round(4), uniquenesses.round(4)
    (array([1., 1., 1.]), array([1., 2., 1.]))
    """
    variances = np.diagonal(moment)
    if start is None:
        start = _unexplained(moment)
    lower = np.log(LEAST_SHARE * variances + LEAST_VARIANCE)
    upper = np.maximum(np.log(variances), lower + 1e-6)
    logs = np.clip(np.log(start), lower, upper)
    found = minimize(
        lambda x: _loss(x, moment, n_factors),
        logs,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(lower, upper, strict=True)),
        options={"maxiter": STEPS, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 20},
    )
    logs = _polished(found.x, moment, n_factors, lower)
    values, vectors, shared = _spectrum(logs, moment, n_factors)
    loadings = np.zeros((len(logs), n_factors))
    loadings[:, : shared.sum()] = np.exp(0.5 * logs)[:, None] * vectors[:, shared] * np.sqrt(values[shared] - 1)
    return loadings, np.exp(logs)


def _unexplained(moment: Matrix) -> Matrix:
    """Half of 1 / (S⁻¹)ⱼⱼ, with S kept from being singular."""
    scale = np.sqrt(np.diagonal(moment))
    correlation = moment / scale[:, None] / scale
    return 0.5 * scale**2 / np.diagonal(np.linalg.inv(correlation + 1e-3 * np.eye(len(scale))))


def _spectrum(logs: Matrix, moment: Matrix, n_factors: int) -> tuple[Matrix, Matrix, NDArray[np.bool_]]:
    """Eigenvalues and eigenvectors of ψ^-½ S ψ^-½, and which are of factors."""
    scale = np.exp(-0.5 * logs)
    values, vectors = np.linalg.eigh(scale[:, None] * moment * scale)
    values = np.maximum(values, np.finfo(float).tiny)
    shared = values > 1
    shared[:-n_factors] = False
    return values, vectors, shared


def _loss(logs: Matrix, moment: Matrix, n_factors: int) -> tuple[float, Matrix]:
    """What is to be minimised, and its slope Σ (1 − λ) w² by log ψ."""
    values, vectors, shared = _spectrum(logs, moment, n_factors)
    rest, along = values[~shared], np.square(vectors[:, ~shared])
    return float((rest - np.log(rest) - 1).sum()), along @ (1 - rest)


def _curvature(logs: Matrix, moment: Matrix, n_factors: int) -> Matrix:
    """Second derivatives of the same, (p, p), by those of eigenvalues and eigenvectors."""
    values, vectors, shared = _spectrum(logs, moment, n_factors)
    rest, others = values[~shared], vectors[:, ~shared]
    matrix = ((others * rest) @ others.T) * (others @ others.T)
    for value, vector in zip(values[shared], vectors[:, shared].T, strict=True):
        weights = (1 - rest) * (rest + value) / (rest - value)
        matrix -= np.outer(vector, vector) * ((others * weights) @ others.T)
    return matrix


def _polished(logs: Matrix, moment: Matrix, n_factors: int, lower: Matrix) -> Matrix:
    """Newton's method on uniquenesses that are not at their least, as long as it makes slopes smaller."""
    _, slope = _loss(logs, moment, n_factors)
    free = (logs > lower + np.log(VANISHING)) | (slope < 0)
    logs = np.where(free, logs, lower)
    _, slope = _loss(logs, moment, n_factors)
    for _ in range(NEWTON_STEPS):
        step = np.zeros_like(logs)
        step[free] = np.linalg.lstsq(_curvature(logs, moment, n_factors)[np.ix_(free, free)], -slope[free])[0]
        proposal = np.maximum(logs + step, lower)
        _, there = _loss(proposal, moment, n_factors)
        if not np.abs(there[free]).max(initial=0.0) < np.abs(slope[free]).max(initial=0.0):
            break
        logs, slope = proposal, there
    return logs
