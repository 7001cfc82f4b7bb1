"""A mixture whose components are known groups of cells, with one covariance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.inference.genespace._fit import fit_pln

from ._parameters import MixtureParameters

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import Array, CountData
    from scpln.inference.genespace import PLNResult
    from scpln.module.covariances import Covariance


def fit_pln_groups(
    data: CountData,
    covariance: Covariance,
    groups: NDArray[np.intp],
    weights: ArrayLike,
    **settings: Any,
) -> tuple[MixtureParameters, PLNResult]:
    r"""Fit the model in gene space with a mean for each of the given groups of cells, and one covariance within them.

    .. math:: z_i \sim N(\mu_{g_i} + B x_i, \Sigma)

    It is `fit_pln` with differences of groups among the columns of the design, in orthonormal contrasts, so that the weak prior of
    coefficients holds all groups alike. As a mixture with these groups as components, it says by Bayes' rule of what group other cells are.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells.
    covariance
        Family of Σ.
    groups
        Group of each cell, 0, …, G − 1, (n,).
    weights
        Probabilities of the groups, (G,).
    **settings
        Of `fit_pln`.

    Returns
    -------
    The mixture, and the fit with groups known.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace.mixture import fit_pln_groups, infer_pln_mixture
    >>> from scpln.module.covariances import Spherical
    >>> random = np.random.default_rng(0)
    >>> groups = np.repeat([0, 1], 30)
    >>> log_rates = 2 + 0.3 * random.standard_normal((60, 3)) + 2 * groups[:, None] * np.array([1, -1, 0])
    >>> data = CountData(random.poisson(np.exp(log_rates)), np.zeros(60), np.ones((60, 1)))
    >>> mixture, _ = fit_pln_groups(data, Spherical(3), groups, [0.5, 0.5])
    >>> bool((infer_pln_mixture(data, mixture).responsibilities.argmax(1) == groups).all())
    True
    """
    n_groups, d = len(np.asarray(weights)), data.design.shape[1]
    contrasts = orthonormal_contrasts(n_groups)
    fit = fit_pln(replace(data, design=np.hstack([data.design, contrasts[groups]])), covariance, **settings)
    means = fit.coefficients[:, 0] + contrasts @ fit.coefficients[:, d:].T
    covariances = [fit.covariance] * n_groups
    return MixtureParameters(np.asarray(weights, np.float64), means, fit.coefficients[:, 1:d], covariances), fit


def orthonormal_contrasts(n: int) -> Array:
    """Columns (n, n − 1) of length 1 at right angles to each other and to the constant, as Helmert's.

    Examples
    --------
    >>> orthonormal_contrasts(2).round(3).tolist()
    [[-0.707], [0.707]]
    """
    result = np.zeros((n, n - 1))
    for column in range(1, n):
        result[:column, column - 1], result[column, column - 1] = -1.0, column
        result[:, column - 1] /= np.sqrt(column * (column + 1))
    return result
