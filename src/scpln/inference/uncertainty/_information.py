"""What cells say of each gene's coefficients and loadings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from scpln.core import Array
    from scpln.inference.newton import CellProblem, CellStates, GeneParameters


def gene_information(problem: CellProblem, genes: GeneParameters, cells: CellStates) -> Array:
    r"""Expected information of each gene's (B_j, C_j), packed lower triangles (p, k(k+1)/2) with k = d + q.

    .. math:: H_j = \sum_i \frac{w_{ij}}{1 + w_{ij} C_j^T V_{i(j)} C_j} u_i u_i^T
              = \sum_i w_{ij} (1 - w_{ij} C_j^T V_i C_j)\, u_i u_i^T, \quad u_i = (x_i, m_i),

    with :math:`w_{ij} = -E[\ell''_{ij}]` and :math:`V_{i(j)}` the posterior covariance of the state given all other genes (the two are
    equal by the Sherman-Morrison formula). It is that of a generalised linear model of the gene on design and states, in which a cell
    whose state this gene itself has to tell counts for less.

    Parameters
    ----------
    problem
        Cells under given genes.
    genes
        B and C, known (without `spread`).
    cells
        Full-rank posteriors, V packed.
    """
    loadings = linalg.packed_outer(genes.loadings) * linalg.inner_weights(genes.loadings.shape[1])
    design = problem.data.design

    def of_block(some: slice, slope: Array, weight: Array) -> Array:
        weight = np.maximum(weight, 0).astype(np.float64)
        explained = weight * (cells.variance[some] @ loadings.T)
        weight *= np.clip(1 - explained, 0, 1)
        information: Array = weight.T @ linalg.packed_outer(np.hstack([design[some], cells.mean[some]]))
        return information

    return problem.sum_derivatives(of_block, genes, cells)
