"""Covariances of genes' coefficients and loadings, and what they add to those of log-rates and latent states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from scpln.core import _linalg as linalg

from ._information import gene_information
from ._prior import gene_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import Array
    from scpln.inference.newton import CellProblem, CellStates, GeneParameters

#: What is added to the information on each parameter, as a share of it and at least, so that what no cell tells has a covariance, too.
RIDGE, LEAST_INFORMATION = 1e-9, 1e-9


@dataclass(frozen=True)
class GeneUncertainty:
    r"""Posteriors of every gene's coefficients and loadings, :math:`(B_j, C_j) \sim N(\cdot, S_j)`, given the cells' states.

    :math:`S_j = (H_j + P)^{-1}`, with H the information of the cells (`gene_information`) and P the precision of what the genes have
    in common, 0 without a learned prior. In factor models with many cells and many genes, the error of a log-rate is the sum of
    that of the state for known loadings and that of coefficients and loadings for known states, which are independent in the limit [1]_:

    .. math:: \mathrm{Var}[\eta_{ij}] = C_j^T V_i C_j + u_i^T S_j u_i + \mathrm{tr}(S_j^{CC} V_i), \quad u_i = (x_i, m_i).

    Parameters
    ----------
    genes
        B (p, d) and C (p, q).
    covariance
        S, packed lower triangles (p, k(k+1)/2), k = d + q.

    References
    ----------
    .. [1] J. Bai (2003), Inferential theory for factor models of large dimensions. Econometrica 71, 135-171.
    """

    genes: GeneParameters
    covariance: Array

    @classmethod
    def of(cls, problem: CellProblem, genes: GeneParameters, cells: CellStates, codes: NDArray[np.intp]) -> Self:
        """From the cells that parameters were estimated on.

        Parameters
        ----------
        problem, cells
            As in `gene_information`.
        genes
            B and C; with their `spread` if they have a learned prior.
        codes
            Group (modality) of each gene, (p,).
        """
        known = genes.known(0.0)
        d, q = genes.coefficients.shape[1], genes.loadings.shape[1]
        precision = linalg.unpack(gene_information(problem, known, cells), d + q)
        diagonal = np.einsum("aap->ap", precision)
        diagonal += RIDGE * np.maximum(diagonal, diagonal.mean(0)) + LEAST_INFORMATION
        precision += gene_precision(genes, diagonal[:d].T, codes)
        linalg.invert(precision)
        return cls(known, linalg.pack(precision))

    @classmethod
    def none(cls, genes: GeneParameters) -> Self:
        """Parameters that are known."""
        k = genes.stacked.shape[1]
        return cls(genes.known(0.0), np.zeros((len(genes.loadings), k * (k + 1) // 2)))

    def log_rate_moments(
        self, design: Array, mean: Array, covariance: Array, genes: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Means and variances of log-rates without offsets, (n, genes) each, of cells with posteriors N(m, V).

        Parameters
        ----------
        design, mean, covariance
            Design (n, d), m (n, q) and packed V (n, q(q+1)/2).
        genes
            Positions of genes; all if None.
        """
        chosen = slice(None) if genes is None else np.asarray(genes)
        b, c = self.genes.coefficients[chosen], self.genes.loadings[chosen]
        s, of_loadings = self.covariance[chosen], self._of_loadings[chosen]
        states = (linalg.packed_outer(c) + of_loadings) * linalg.inner_weights(c.shape[1])
        inputs = np.hstack([design, mean])
        variance = covariance @ states.T
        variance += linalg.packed_outer(inputs) @ (s * linalg.inner_weights(inputs.shape[1])).T
        return design @ b.T + mean @ c.T, np.maximum(variance, 0)

    def state_covariance(self, problem: CellProblem, cells: CellStates) -> Array:
        r"""Packed covariances of the cells' states with what genes add to them, (n, q(q+1)/2).

        .. math:: V_i + V_i \Bigl[\sum_j (y_{ij} - A_{ij})^2 S_j^{CC} + w_{ij}^2\, (u_i^T S_j u_i)\, C_j C_j^T\Bigr] V_i

        for Poisson counts; in general with the slope :math:`E[\ell'_{ij}]` in place of y - A. It is how much the posterior's mean moves with each
        gene's parameters, squared. The rotation and scale of the latent space, which all genes share, are taken as given.
        """
        q = self.genes.loadings.shape[1]
        outer, of_loadings = linalg.packed_outer(self.genes.loadings), self._of_loadings
        weights = self.covariance * linalg.inner_weights(problem.data.design.shape[1] + q)
        middle = np.empty(cells.variance.shape)

        def of_block(some: slice, slope: Array, weight: Array) -> float:
            inputs = np.hstack([problem.data.design[some], cells.mean[some]])
            spread = linalg.packed_outer(inputs) @ weights.T
            middle[some] = np.square(slope, dtype=np.float64) @ of_loadings
            middle[some] += (np.square(weight, dtype=np.float64) * spread) @ outer
            return 0.0

        problem.sum_derivatives(of_block, self.genes, cells)
        variance = linalg.unpack(cells.variance.astype(np.float64), q)
        added = np.einsum("abn,bcn,cdn->adn", variance, linalg.unpack(middle, q), variance, optimize=True)
        return linalg.pack(variance + added)

    @property
    def _of_loadings(self) -> Array:
        """Packed covariances of the loadings alone, (p, q(q+1)/2)."""
        d, q = self.genes.coefficients.shape[1], self.genes.loadings.shape[1]
        rows, columns = linalg.tril_indices(d + q)
        return self.covariance[:, (rows >= d) & (columns >= d)]
