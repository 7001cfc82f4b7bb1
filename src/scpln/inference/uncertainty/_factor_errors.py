"""Covariances of the coefficients of PLN-PCA with many genes, in memory that is linear in genes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np

from scpln.core import _linalg as linalg
from scpln.core import threads

from ._errors import CoefficientErrors
from ._gene_uncertainty import LEAST_INFORMATION, RIDGE
from ._prior import gene_precision
from ._sandwich import degrees_of_freedom, small_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.newton import CellProblem, CellStates, GeneParameters

    from ._errors import ErrorMethod

#: Largest leverage of a cell that is left out.
LARGEST_LEVERAGE = 1 - 1e-6


@dataclass(frozen=True)
class FactorSandwich:
    r"""The sandwich of profiled scores where genes are many more than latent dimensions.

    The profiled curvature of all genes' :math:`\theta_j = (B_j, C_j)` has a block of each gene, in which states are known, and
    one part that all genes share: a shift of states along the design, :math:`z_i + T x_i`, which coefficients can undo, :math:`B_j - T^T C_j`, so that only
    the prior of the states says what it is, and that of coefficients, if it was learned. To leading order in genes the inverse is the sum of both,

    .. math:: \psi_{ij}^B = \bigl[M_j^{-1} s_{ij}\bigr]_B + (X^T X)^{-1} x_i\, (m_i^T C_j), \quad
        M_j = \sum_i w_{ij} \bigl[u_i u_i^T + \text{diag}(0, V_i)\bigr], \quad u_i = (x_i, m_i)

    with :math:`s_{ij} = (\alpha_{ij} x_i,\ \alpha_{ij} m_i - w_{ij} V_i C_j)`. The first is a regression of the gene on design and states, the
    second how far the states of these cells are from what the prior expects, which no number of genes makes smaller.
    It is exact for Gaussian observations with one precision for each gene. Few genes take `Sandwich`, which has no such limit.

    Parameters
    ----------
    problem, genes, cells
        Cells at their optimum under known genes.
    inverse
        :math:`(M_j + P_j)^{-1}`, (k, k, p), k = d + q.
    precision
        P of the prior, (k, k, p).
    codes
        Group of each gene, (p,), which has a prior of its own.
    scores
        Mean score of a cell, (p, k).
    """

    problem: CellProblem
    genes: GeneParameters
    cells: CellStates
    inverse: Array
    precision: Array
    codes: NDArray[np.intp]
    scores: Array

    @classmethod
    def of(cls, problem: CellProblem, genes: GeneParameters, cells: CellStates, codes: NDArray[np.intp]) -> Self:
        """From the cells that parameters were estimated on; `genes` with their `spread` if they have a learned prior."""
        known = genes.known(0.0)
        d, q = genes.coefficients.shape[1], genes.loadings.shape[1]
        design = problem.data.design

        def of_block(some: slice, slope: Array, weight: Array) -> _Sums:
            weight = np.maximum(weight, 0).astype(np.float64)
            inputs = np.hstack([design[some], cells.mean[some]])
            variance = weight.T @ cells.variance[some]
            own = slope.astype(np.float64).T @ inputs
            own[:, d:] -= np.einsum("abp,pb->pa", linalg.unpack(variance, q), known.loadings)
            return _Sums(weight.T @ linalg.packed_outer(inputs), variance, own)

        sums = problem.sum_derivatives(of_block, known, cells)
        curvature = linalg.unpack(sums.products, d + q)
        curvature[d:, d:] += linalg.unpack(sums.variance, q)
        diagonal = np.einsum("aap->ap", curvature)
        diagonal += RIDGE * np.maximum(diagonal, diagonal.mean(0)) + LEAST_INFORMATION
        precision = gene_precision(genes, diagonal[:d].T, codes)
        curvature += precision
        linalg.invert(curvature)
        return cls(problem, known, cells, curvature, precision, codes, sums.scores / len(design))

    def coefficients(self, method: ErrorMethod, clusters: NDArray[np.intp] | None = None) -> CoefficientErrors:
        """Covariances of the coefficients, as `Sandwich.coefficients` has them."""
        design = self.problem.data.design
        n, d = design.shape
        n_units = n if clusters is None else int(clusters.max()) + 1
        df = degrees_of_freedom(design, clusters)
        if method == "model":
            total = self.inverse[:d, :d].transpose(2, 0, 1) + self._of_shift(self._shift)
            return CoefficientErrors(total, df)
        with threads(self.problem.pool.n_threads) as pool:  # the one that cells were made ready in has ended
            total = self._summed_squares(replace(self.problem, pool=pool), method, clusters, n_units)
        total *= small_sample(method, clusters, n_units)
        return CoefficientErrors(total + self._pulled(), df)

    @cached_property
    def _shift_score(self) -> Array:
        """Mean score of T, (d, q): 0 without a prior of coefficients."""
        design = self.problem.data.design
        return design.T @ self.cells.mean / len(design)

    @cached_property
    def _pull(self) -> Array:
        """Precision that the prior of coefficients has of T, (d, q, d, q): Σ_j P_j ⊗ C_j C_jᵀ, around means of groups."""
        d, loadings = self.genes.coefficients.shape[1], self.genes.loadings.copy()
        for group in np.unique(self.codes):
            loadings[self.codes == group] -= loadings[self.codes == group].mean(0)
        return np.einsum("abp,pk,pl->akbl", self.precision[:d, :d], loadings, loadings, optimize=True)

    @cached_property
    def _shift(self) -> Array:
        """Inverse curvature of T, (d, q, d, q): that of XᵀX ⊗ I and of the prior."""
        d, q = self.problem.data.design.shape[1], self.genes.loadings.shape[1]
        gram = self.problem.data.design.T @ self.problem.data.design
        whole = (np.einsum("ab,kl->akbl", gram, np.eye(q)) + self._pull).reshape(d * q, d * q)
        return np.linalg.pinv(whole, hermitian=True).reshape(d, q, d, q)

    def _of_shift(self, covariance: Array) -> Array:
        """What a covariance of T, (d, q, d, q), makes of each gene's coefficients, (p, d, d)."""
        return np.einsum("pk,akbl,pl->pab", self.genes.loadings, covariance, self.genes.loadings, optimize=True)

    def _pulled(self) -> Array:
        """What the prior adds to the covariances, (p, d, d)."""
        d, shift = self.genes.coefficients.shape[1], self._shift
        rows = self.inverse[:d]
        total = np.einsum("abp,bcp,dcp->pad", rows, self.precision, rows, optimize=True)
        gain = np.einsum("abp,bcp->pac", rows, self.precision[:, :d], optimize=True)
        mixed = gain @ self._of_shift(shift)
        middle = np.einsum("akbl,blcm,cmdn->akdn", shift, self._pull, shift, optimize=True)
        result: Array = total + mixed + mixed.transpose(0, 2, 1) + self._of_shift(middle)
        return result

    def _summed_squares(
        self, problem: CellProblem, method: ErrorMethod, clusters: NDArray[np.intp] | None, n_units: int
    ) -> Array:
        """Σ_g ψ_gj ψ_gjᵀ over cells or clusters, (p, d, d)."""
        design, (p, d) = self.problem.data.design, self.genes.coefficients.shape
        left_out = method == "hc3" and clusters is None

        def of_block(some: slice, slope: Array, weight: Array) -> Array:
            influences = self._influences(some, slope, np.maximum(weight, 0), left_out=left_out)
            return _squares(influences)

        if clusters is None:
            return problem.sum_derivatives(of_block, self.genes, self.cells)
        by_unit, lock = np.zeros((n_units, p, d)), Lock()

        def add_block(some: slice, slope: Array, weight: Array) -> float:
            influences = self._influences(some, slope, np.maximum(weight, 0), left_out=False)
            units, codes = np.unique(clusters[some], return_inverse=True)
            parts = (codes == np.arange(len(units))[:, None]) @ influences.reshape(len(influences), -1)
            with lock:
                by_unit[units] += parts.reshape(-1, p, d)
            return 0.0

        problem.sum_derivatives(add_block, self.genes, self.cells)
        if method == "hc3":
            shared = np.linalg.pinv(design.T @ design, hermitian=True)
            for unit in range(n_units):
                part = design[clusters == unit]
                without = np.eye(d) * (1 + 1e-9) - shared @ (part.T @ part)
                by_unit[unit] = np.linalg.solve(without, by_unit[unit].T).T
        return _squares(by_unit)

    def _influences(self, some: slice, slope: Array, weight: Array, *, left_out: bool) -> Array:
        """ψ of a block of cells, (n, p, d)."""
        design, mean = self.problem.data.design[some], self.cells.mean[some]
        (_, d), q = design.shape, mean.shape[1]
        inputs, rows = np.hstack([design, mean]), self.inverse[:d]
        by_slope = np.einsum("abp,nb->npa", rows, inputs, optimize=True)
        variance = linalg.unpack(self.cells.variance[some], q).transpose(2, 0, 1)
        trace = np.einsum("nbc,pc,abp->npa", variance, self.genes.loadings, rows[:, d:], optimize="optimal")
        own = by_slope * slope[:, :, None] - trace * weight[:, :, None]
        own -= np.einsum("abp,pb->pa", rows, self.scores)
        if self.precision.any():
            own += self._with_prior_mean(own)
        states = design[:, :, None] * mean[:, None] - self._shift_score
        shift = np.einsum("akbl,nbl->nak", self._shift, states, optimize=True)
        if left_out:
            leverage = np.einsum("na,abp,nb->np", inputs, self.inverse, inputs, optimize="optimal") * weight
            own /= 1 - np.minimum(leverage, LARGEST_LEVERAGE)[:, :, None]
            whole = np.linalg.pinv(self.problem.data.design.T @ self.problem.data.design, hermitian=True)
            leverage = np.einsum("na,ab,nb->n", design, whole, design)
            shift /= 1 - np.minimum(leverage, LARGEST_LEVERAGE)[:, None, None]
        own += np.einsum("nak,pk->npa", shift, self.genes.loadings, optimize=True)
        return own

    def _with_prior_mean(self, own: Array) -> Array:
        r"""What a group's mean coefficients, which its prior pulls to, add to influences (n, p, d).

        :math:`R_j \bar\psi` with :math:`R_j = M_j^{-1} P_j` and :math:`\bar\psi = (I - \bar R)^{-1} \frac1p \sum_j \psi_j`.
        """
        d, added = own.shape[2], np.empty_like(own)
        pulled = np.einsum("abp,bcp->pac", self.inverse[:d], self.precision[:, :d], optimize=True)
        for group in np.unique(self.codes):
            genes = self.codes == group
            mean = own[:, genes].mean(1) @ np.linalg.pinv(np.eye(d) - pulled[genes].mean(0)).T
            added[:, genes] = np.einsum("pac,nc->npa", pulled[genes], mean)
        return added


def _squares(influences: Array) -> Array:
    """Σ_i ψ_ij ψ_ijᵀ, (p, d, d)."""
    by_gene = influences.transpose(1, 2, 0)
    result: Array = by_gene @ by_gene.transpose(0, 2, 1)
    return result


@dataclass(frozen=True)
class _Sums:
    """What a first pass over the cells gives."""

    products: Array  # Σ_i w_ij u_i u_iᵀ, packed
    variance: Array  # Σ_i w_ij V_i, packed
    scores: Array  # Σ_i s_ij

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.products + other.products, self.variance + other.variance, self.scores + other.scores)
