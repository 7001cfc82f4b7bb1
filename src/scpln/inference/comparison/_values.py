"""Whether the mean of each gene's real values differs between two sides of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._moderation import Spread, contrast_scale
from ._result import GeneTests

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Units × genes that are dense at a time.
_ENTRIES = 2**22


def compare_values(
    values: Array, side: NDArray[np.bool_], offsets: Array, covariates: Array | None = None
) -> GeneTests:
    """Test of b = 0 in E y = o + a + b g + x·c, for each gene: least squares, with moderated variances.

    Parameters
    ----------
    values
        Y (n × p), an array or a sparse matrix.
    side, offsets, covariates
        As in `compare_counts`; o is added to the mean of each gene.

    References
    ----------
    G. Smyth (2004), Linear models and empirical Bayes methods for assessing differential expression in microarray
    experiments, Statistical Applications in Genetics and Molecular Biology 3: 3.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> side = np.arange(12) < 6
    >>> tests = compare_values(rng.normal(size=(12, 30)) + 3 * np.outer(side, np.arange(30) == 4), side, np.zeros(12))
    >>> int(tests.p_values.argmin())
    4
    """
    columns = [np.ones(len(side)), side.astype(float)]
    design = np.column_stack(columns if covariates is None else [*columns, covariates])
    inverse = np.linalg.inv(design.T @ design)
    free = 1 - np.einsum("na,ab,nb->n", design, inverse, design)
    influence = (design @ inverse[1]) ** 2
    n_genes = values.shape[1]
    effects, squares = np.zeros(n_genes), np.zeros((2, n_genes))
    size = max(1, _ENTRIES // len(side))
    for start in range(0, n_genes, size):
        genes = slice(start, start + size)
        block = values[:, genes]
        y = np.asarray(block.toarray() if hasattr(block, "toarray") else block, float) - offsets[:, None]
        coefficients = inverse @ (design.T @ y)
        effects[genes] = coefficients[1]
        residuals = (y - design @ coefficients) ** 2
        squares[:, genes] = residuals[side].sum(0), residuals[~side].sum(0)
    tested = squares.sum(0) > 0
    spreads, shares = [], []
    for number, units in enumerate((side, ~side)):
        n_free = np.full(tested.sum(), free[units].sum())
        spreads.append(Spread(squares[number, tested], n_free, 2 * n_free, n_free))
        shares.append(np.full(tested.sum(), influence[units].sum()))
    errors, df, statistics = np.full(n_genes, np.inf), np.ones(n_genes), np.zeros(n_genes)
    if tested.any():
        scale, df[tested] = contrast_scale((spreads[0], spreads[1]), (shares[0], shares[1]))
        errors[tested] = np.sqrt(inverse[1, 1] * scale)
        statistics[tested] = effects[tested] / errors[tested]
    return GeneTests.of(statistics, df, effects, errors, tested)
