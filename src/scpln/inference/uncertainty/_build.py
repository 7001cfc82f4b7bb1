"""Sandwiches of fitted models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._directions import Columns, Combinations, Directions, Scales
from ._factor_errors import FactorSandwich
from ._prior import gene_precision
from ._profile_curvature import ProfiledCells
from ._sandwich import Sandwich

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.inference.newton import CellProblem, CellStates, GeneParameters

#: Most parameters of a matrix of all, and most operations, n p P².
MOST_PARAMETERS, MOST_OPERATIONS = 3000, 2e11
#: Most genes all of whose covariances are parameters beside the coefficients, and most numbers in matrices that Σ is linear in.
MOST_GENES, MOST_NUMBERS = 40, 1e6


def covariance_directions(covariance: Array, known: Array, family: str) -> Directions:
    """Parameters of Σ (p, p) whose estimation counts in the errors of coefficients.

    Of many genes with any covariance, the standard deviations, with correlations as they are: coefficients hardly depend on these.

    Parameters
    ----------
    covariance
        Σ.
    known
        What it is made of that was given, (p, k).
    family
        Name of its family.
    """
    p = len(covariance)
    if family == "fixed":
        return Combinations(np.zeros((0, p, p)))
    if family == "spherical":
        return Combinations(np.eye(p)[None])
    if family == "kernel":
        return Combinations(np.stack([known, np.eye(p)]))
    if family == "basis" and known.size * p <= MOST_NUMBERS:
        return Combinations(np.einsum("pk,rk->kpr", known, known))
    if family == "full" and p <= MOST_GENES:
        return Columns(np.linalg.cholesky(covariance))
    return Scales(covariance, complete=family == "diagonal")


def gene_space_sandwich(
    design: Array,
    slope: Array,
    weight: Array,
    covariance: Array,
    directions: Directions,
    prior_precision: float,
    pool: Threads,
    *,
    mean_field: bool = False,
    poisson: bool = True,
) -> Sandwich:
    """Of a Poisson log-normal model in gene space, or of one with another likelihood.

    Parameters
    ----------
    design
        X, (n, d).
    slope, weight
        α and a at the optimum, (n, p), 0 where an entry was not observed: y − A and the expected rates A of Poisson counts.
    covariance, directions
        Σ (p, p) and its parameters.
    prior_precision
        λ of the prior of all coefficients but intercepts.
    pool
        Threads.
    mean_field
        Whether posteriors are diagonal.
    poisson
        As in `ProfiledCells`.

    Raises
    ------
    ValueError
        If there are too many coefficients for a matrix of them.
    """
    p, design = weight.shape[1], np.asarray(design, np.float64)
    size = p * design.shape[1] + directions.size
    if p * design.shape[1] > 2 * MOST_PARAMETERS:
        msg = (
            f"Standard errors in gene space take a matrix of all coefficients, and there are {p:,} × {design.shape[1]:,}. "
            "Take them from a bootstrap, model.bootstrap(), or from a PLNPCA."
        )
        raise ValueError(msg)
    precision = np.linalg.inv(covariance) if mean_field else None
    ridge = np.full(design.shape[1], float(prior_precision))
    ridge[0] = 0
    prior = np.zeros((size, size))
    np.fill_diagonal(prior[: p * len(ridge), : p * len(ridge)], np.tile(ridge, p))
    cells = ProfiledCells(slope, weight, design, covariance, directions, precision, poisson)
    return Sandwich.of(cells, prior, pool)


def factor_sandwich(
    problem: CellProblem, genes: GeneParameters, cells: CellStates, codes: NDArray[np.intp], pool: Threads
) -> Sandwich | FactorSandwich:
    """Of PLN-PCA: of all parameters together where that is affordable, or else to leading order in genes.

    Parameters
    ----------
    problem, cells
        Cells at their optimum, in full-rank posteriors.
    genes
        B and C; with their `spread` if they have a learned prior.
    codes
        Group (modality) of each gene, (p,).
    pool
        Threads.
    """
    known = genes.known(0.0)
    (p, d), q, n = known.coefficients.shape, known.loadings.shape[1], len(cells.mean)
    size = p * (d + q)
    if size > MOST_PARAMETERS or n * p * size**2 > MOST_OPERATIONS:
        return FactorSandwich.of(problem, genes, cells, codes)
    slope, weight = np.empty((n, p)), np.empty((n, p))

    def take(some: slice, by_rate: Array, curvature: Array) -> float:
        slope[some], weight[some] = by_rate, np.maximum(curvature, 0)
        return 0.0

    problem.sum_derivatives(take, known, cells)
    design = np.asarray(problem.data.design, np.float64)
    profiled = ProfiledCells(
        slope,
        weight,
        design,
        known.loadings @ known.loadings.T,
        Columns(known.loadings),
        poisson=problem.likelihood.is_poisson,
    )
    information = np.einsum("np,nd->pd", weight, design**2)
    return Sandwich.of(profiled, _of_all(gene_precision(genes, information, codes), codes, d), pool)


def _of_all(precision: Array, codes: NDArray[np.intp], d: int) -> Array:
    r"""The prior's precision of all coefficients, then all loadings, (P, P), from that of each gene (k, k, p).

    Its mean, which is that of a group's coefficients, moves with these: :math:`\sigma_a^{-2} (I - 11^T / p)`.
    """
    k, _, p = precision.shape
    coefficients, loadings = np.zeros((p, d, p, d)), np.zeros((p, k - d, p, k - d))
    genes = np.arange(p)
    coefficients[genes, :, genes] = precision[:d, :d].transpose(2, 0, 1)
    loadings[genes, :, genes] = precision[d:, d:].transpose(2, 0, 1)
    for group in np.unique(codes):
        own = np.flatnonzero(codes == group)
        coefficients[own[:, None], :, own] -= precision[:d, :d, own[0]] / len(own)
    result = np.zeros((p * k, p * k))
    result[: p * d, : p * d], result[p * d :, p * d :] = (
        coefficients.reshape(p * d, -1),
        loadings.reshape(p * (k - d), -1),
    )
    return result
