"""Covariances of estimates by the sandwich of profiled scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from ._errors import CoefficientErrors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Threads

    from ._errors import ErrorMethod
    from ._profile_curvature import ProfiledCells

#: Eigenvalues of the curvature, scaled to a diagonal of 1, below which a direction is not identified.
LEAST_EIGENVALUE = 1e-9
#: Curvature by a parameter, as a share of the largest, below which it is taken as known.
LEAST_CURVATURE = 1e-14


@dataclass(frozen=True)
class Sandwich:
    r"""Covariances of all estimates, from the profiled scores :math:`s_i` of cells and their curvature H.

    Estimates :math:`\hat\theta` solve :math:`\sum_i s_i(\theta) = 0`, where posteriors are at their best for every θ, so that

    .. math:: \hat\theta - \theta_0 \approx \sum_i \psi_i, \quad \psi_i = H^{-1} s_i, \quad
        \mathrm{Cov}(\hat\theta) = H^{-1} \Bigl[\sum_i s_i s_i^T\Bigr] H^{-1}

    (Godambe; [1]_ for variational estimates). θ are the coefficients and the parameters of Σ together, so that the errors of the former count in
    that Σ was estimated. Cells that are not independent are added up first, within their clusters.

    A prior with precision P is part of the curvature. What it pulls estimates away from the truth by has variance P on average over
    what it expects, which is added in the middle: :math:`H^{-1} [\sum_i s_i s_i^T + P] H^{-1}`.

    Parameters
    ----------
    cells
        Scores and curvature.
    scores
        s, (n, P).
    curvature
        H without the prior, (P, P).
    precision
        P of the prior, (P, P).
    bread
        :math:`(H + P)^{-1}`, (P, P).

    References
    ----------
    .. [1] T. Westling and T. H. McCormick (2019), Beyond prediction: a framework for inference with variational approximations in
       mixture models. Journal of Computational and Graphical Statistics 28, 778-789.
    """

    cells: ProfiledCells
    scores: Array
    curvature: Array
    precision: Array
    bread: Array

    @classmethod
    def of(cls, cells: ProfiledCells, precision: Array, pool: Threads) -> Self:
        """From cells at the optimum, and the prior's precision (P, P)."""
        curvature = cells.curvature(pool)
        idle = np.vstack([np.zeros((cells.n_coefficients, cells.directions.idle.shape[1])), cells.directions.idle])
        return cls(cells, cells.scores(pool), curvature, precision, _inverse(curvature + precision, idle))

    @property
    def has_covariance(self) -> bool:
        """Whether all that is estimated of Σ is among the parameters."""
        return self.cells.directions.complete

    @cached_property
    def influences(self) -> Array:
        """ψ of each cell, (n, P). A prior's slope, the sum of the scores at the optimum, is taken off in equal parts."""
        return (self.scores - self.scores.mean(0)) @ self.bread

    def coefficients(
        self, method: ErrorMethod, clusters: NDArray[np.intp] | None = None, *, joint: bool = False
    ) -> CoefficientErrors:
        """Covariances of the coefficients.

        Parameters
        ----------
        method
            `"sandwich"`; `"hc3"`, in which each cell's or cluster's influence is that of leaving it out; or `"model"`, the inverse curvature, as if
            the bound were a log-likelihood and the model true.
        clusters
            Code of each cell's cluster, (n,); −1 is an error.
        joint
            Whether that of all coefficients together is kept.
        """
        parts, p, d = self.cells.n_coefficients, self.cells.slope.shape[1], self.cells.design.shape[1]
        bread = self.bread[:parts, :parts]
        n_units = len(self.scores) if clusters is None else int(clusters.max()) + 1
        df = degrees_of_freedom(self.cells.design, clusters)
        if method == "model":
            whole = bread
        else:
            influences = self.influences[:, :parts].reshape(-1, p, d)
            units = self._without(influences, clusters) if method == "hc3" else summed(influences, clusters)
            units = units.reshape(n_units, -1)
            whole = small_sample(method, clusters, n_units) * units.T @ units
            whole += self.bread[:parts] @ self.precision @ self.bread[:, :parts]
        blocks = np.einsum("jajb->jab", whole.reshape(p, d, p, d)).copy()
        return CoefficientErrors(blocks, df, whole if joint else None)

    def _without(self, influences: Array, clusters: NDArray[np.intp] | None) -> Array:
        """Influences as leaving a unit out has them, (units, p, d)."""
        p, d = influences.shape[1:]
        parts = self.cells.n_coefficients
        whole = (self.curvature + self.precision)[:parts, :parts]
        own = np.einsum("jajb->jab", whole.reshape(p, d, p, d))
        return left_out(influences, self.cells.design, self._own_weights(), own, clusters)

    def _own_weights(self) -> Array:
        """Curvatures of each gene in each cell, κ_jj (n, p)."""
        result = np.empty_like(self.cells.weight)
        for start in range(0, len(result), 64):
            cells = slice(start, start + 64)
            result[cells] = np.einsum("njj->nj", self.cells.response(cells).curvature)
        return result

    def covariance_errors(self, clusters: NDArray[np.intp] | None = None) -> tuple[Array, Array]:
        """Standard errors of the entries of Σ, and of the correlations, (p, p) each, by the delta method."""
        sigma = self.cells.covariance
        deviation = np.sqrt(np.maximum(np.diagonal(sigma), 1e-300))
        correlation = sigma / np.outer(deviation, deviation)
        influences = summed(self.influences[:, self.cells.n_coefficients :], clusters)
        factor = small_sample("sandwich", clusters, len(influences))
        of_sigma, of_correlation = np.zeros_like(sigma), np.zeros_like(sigma)
        for start in range(0, len(influences), 64):
            moved = self.cells.directions.moved(influences[start : start + 64])
            of_sigma += np.square(moved).sum(0)
            moved /= np.outer(deviation, deviation)
            relative = 0.5 * np.einsum("njj->nj", moved)
            moved -= correlation * (relative[:, :, None] + relative[:, None])
            of_correlation += np.square(moved).sum(0)
        return np.sqrt(factor * of_sigma), np.sqrt(factor * of_correlation)


def degrees_of_freedom(design: Array, clusters: NDArray[np.intp] | None) -> float:
    """Of Student's t distribution: units less the coefficients of columns that do not vary within them, 1 at least."""
    n, d = design.shape
    if clusters is None:
        return float(max(n - d, 1))
    sizes = np.bincount(clusters)[:, None]
    within = design - (summed(design, clusters) / sizes)[clusters]
    between = int((np.square(within).sum(0) <= 1e-12 * np.square(design).sum(0)).sum())
    return float(max(len(sizes) - between, 1))


def small_sample(method: ErrorMethod, clusters: NDArray[np.intp] | None, n_units: int) -> float:
    """G / (G − 1) for sums over G clusters, and (G − 1) / G for what leaves one of them out."""
    if clusters is None:
        return 1.0
    return (n_units - 1) / n_units if method == "hc3" else n_units / (n_units - 1)


def left_out(
    influences: Array, design: Array, weight: Array, curvature: Array, clusters: NDArray[np.intp] | None
) -> Array:
    r"""Influences of units on each gene's coefficients as leaving them out has them, (units, p, d): :math:`(I - H_j^{-1} H_{gj})^{-1} \psi_{gj}`.

    Parameters
    ----------
    influences
        ψ of cells, (n, p, d).
    design, weight
        X (n, d), and curvatures of cells by each gene's log-rate, (n, p).
    curvature
        H_j, (p, d, d).
    clusters
        Codes, (n,); each cell is a unit if None.
    """
    inverse = np.linalg.pinv(curvature, hermitian=True)
    if clusters is None:
        along = np.einsum("pde,ne->npd", inverse, design, optimize=True)
        leverage = np.minimum(weight * np.einsum("npd,nd->np", along, design), 1 - 1e-6)
        factor = weight / (1 - leverage) * np.einsum("npd,nd->np", influences, design)
        return influences + along * factor[:, :, None]
    units = summed(influences, clusters)
    products = design[:, :, None] * design[:, None]
    d = design.shape[1]
    for unit in range(len(units)):
        chosen = clusters == unit
        part = np.einsum("np,nde->pde", weight[chosen], products[chosen], optimize=True)
        units[unit] = np.linalg.solve(np.eye(d) * (1 + 1e-9) - inverse @ part, units[unit][:, :, None])[:, :, 0]
    return units


def summed(values: Array, clusters: NDArray[np.intp] | None) -> Array:
    """Sums over the cells of each cluster, (G, …); the values themselves without clusters."""
    if clusters is None:
        return values
    result = np.zeros((int(clusters.max()) + 1, *values.shape[1:]))
    np.add.at(result, clusters, values)
    return result


def _inverse(curvature: Array, idle: Array) -> Array:
    """Pseudo-inverse of a symmetric matrix, after scaling its diagonal to 1.

    Where that is not positive, as of a variance that is estimated as 0, the parameter is taken as known. Idle directions, which have no
    curvature at the optimum, and near it what rounding and the fit's tolerance left, are given one.
    """
    diagonal = np.diagonal(curvature)
    free = diagonal > LEAST_CURVATURE * diagonal.max()
    if not free.all():
        result = np.zeros_like(curvature)
        result[np.ix_(free, free)] = _inverse(curvature[np.ix_(free, free)], idle[free])
        return result
    scale = np.sqrt(diagonal)
    scaled = curvature / np.outer(scale, scale)
    if idle.size:
        turns, sizes, _ = np.linalg.svd(scale[:, None] * idle, full_matrices=False)
        turns = turns[:, sizes > LEAST_EIGENVALUE * sizes[0]]
        scaled += turns @ turns.T
    values, vectors = np.linalg.eigh(scaled)
    kept = values > LEAST_EIGENVALUE
    root = vectors[:, kept] / np.sqrt(values[kept])
    return (root @ root.T) / np.outer(scale, scale)
