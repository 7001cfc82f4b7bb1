"""Sparse inverses of second moments."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components
from sklearn.covariance import graphical_lasso as of_scikit_learn
from sklearn.exceptions import ConvergenceWarning

if TYPE_CHECKING:
    from ._base import Matrix

#: Duality gap that ends the search, for each gene, and most iterations over all genes.
GAP, SWEEPS = 1e-7, 50
#: Tolerance of the regression of each gene on the others: above it the gap does not fall, whatever the iterations.
REGRESSION = 1e-11
#: Most steps of the proximal gradient method, and the shortest relative to the largest.
STEPS, SHORTEST = 5000, 1e-12


def graphical_lasso(moment: Matrix, penalty: float, start: Matrix) -> Matrix:
    r"""Ω (p, p) that maximises :math:`\log\det\Omega - \text{tr}(S\Omega) - \alpha \sum_{j \ne k} |\Omega_{jk}|`, symmetric with exact zeros.

    Genes between which no :math:`|S_{jk}|` is above α make blocks, which are solved apart [1]_: by scikit-learn's coordinate descent, or, where that
    fails, does not reach the duality gap asked for or gives a matrix that is not positive definite, by proximal gradient steps from `start`, all of which are [2]_.

    Parameters
    ----------
    moment
        S (p, p), with a positive diagonal.
    penalty
        α, 0 or more.
    start
        A positive definite matrix (p, p), as near as one is known.

    References
    ----------
    .. [1] Witten, Friedman and Simon (2011), New insights and faster computations for the graphical lasso. Journal of Computational and
       Graphical Statistics 20, 892-900.
    .. [2] Guillot, Rajaratnam, Rolfs, Maleki and Wong (2012), Iterative thresholding algorithm for sparse inverse covariance estimation. NeurIPS 25.

    Examples
    --------
    >>> graphical_lasso(np.array([[1.0, 0.5], [0.5, 1.0]]), 0.2, np.eye(2)).round(3)
    array([[ 1.099, -0.33 ],
           [-0.33 ,  1.099]])
    """
    joined = np.abs(moment) > penalty
    n_blocks, block_of = connected_components(joined, directed=False)
    precision = np.zeros_like(moment)
    for block in range(n_blocks):
        genes = np.flatnonzero(block_of == block)
        inside = np.ix_(genes, genes)
        precision[inside] = _solve(moment[inside], penalty, start[inside]) if len(genes) > 1 else 1 / moment[inside]
    return precision


def duality_gap(moment: Matrix, penalty: float, precision: Matrix) -> float:
    """How far Ω is from the optimum at most, in the unit of what is maximised: to the bound of Ω⁻¹, moved within α of S, which is feasible in the dual problem."""
    size = np.abs(precision).sum() - np.abs(np.diagonal(precision)).sum()
    apart = np.clip(np.linalg.inv(precision) - moment, -penalty, penalty)
    np.fill_diagonal(apart, 0)
    dual = _log_det(moment + apart) + len(moment)
    return float((moment * precision).sum() + penalty * size - _log_det(precision) - dual)


def _solve(moment: Matrix, penalty: float, start: Matrix) -> Matrix:
    """Ω of one block."""
    most = GAP * len(moment)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            _, found = of_scikit_learn(moment, penalty, tol=most, enet_tol=REGRESSION, max_iter=SWEEPS)
        if duality_gap(moment, penalty, found) <= 10 * most:
            return np.asarray(found, np.float64)
    except (FloatingPointError, ValueError, np.linalg.LinAlgError):
        pass
    return _proximal_gradient(moment, penalty, start, most)


def _proximal_gradient(moment: Matrix, penalty: float, precision: Matrix, gap: float) -> Matrix:
    """Steps along the gradient, then towards zero; of Barzilai and Borwein's length, shortened until they descend."""
    covariance, value = np.linalg.inv(precision), _loss(moment, precision)
    length = float(np.linalg.eigvalsh(precision)[0] ** 2)
    for _ in range(STEPS):
        if duality_gap(moment, penalty, precision) <= gap:
            break
        gradient, shortest = moment - covariance, SHORTEST * length
        while length > shortest:
            proposal = _towards_zero(precision - length * gradient, length * penalty)
            step = proposal - precision
            there = _loss(moment, proposal)
            square = float((step * step).sum())
            if there <= value + float((step * gradient).sum()) + square / (2 * length) + 1e-13 * abs(value):
                break
            length *= 0.5
        else:
            break
        inverse = np.linalg.inv(proposal)
        fall = float((step * (covariance - inverse)).sum())
        precision, covariance, value = proposal, inverse, there
        length = square / fall if fall > 0 else length
    return precision


def _loss(moment: Matrix, precision: Matrix) -> float:
    """tr(SΩ) − log det Ω, infinite if that is not positive definite."""
    return float((moment * precision).sum()) - _log_det(precision)


def _log_det(matrix: Matrix) -> float:
    """Log det, −∞ of a matrix that is not positive definite."""
    try:
        return float(2 * np.log(np.diagonal(np.linalg.cholesky(matrix))).sum())
    except np.linalg.LinAlgError:
        return -np.inf


def _towards_zero(matrix: Matrix, by: float) -> Matrix:
    """Entries off the diagonal, nearer to zero, or zero."""
    nearer = np.sign(matrix) * np.maximum(np.abs(matrix) - by, 0)
    np.fill_diagonal(nearer, np.diagonal(matrix))
    return nearer
