"""Wald errors of the classifiers' coefficients, which know that components are not observed; and separated components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._logistic import information, log_probabilities, residuals
from ._model import MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._model import ClassifierData, MixtureParameters

    Floats = NDArray[np.float64]

#: Share of a component that a row must be, to count.
_BELONGS = 0.5


def coefficient_covariance(parameters: MixtureParameters, data: ClassifierData, responsibilities: Floats) -> Floats:
    r"""Inverse of the observed information of all coefficients, (K R f) × (K R f), given π and the densities of x.

    By Louis (1982), the expected complete information less what is lost because z is hidden: with the score s_ik of row i as if it were of
    component k,

    .. math:: I = \mathrm{diag}_k\Bigl[\sum_i w_i τ_{ik} (\mathrm{diag}\,p_{ik} - p_{ik} p_{ik}^T) \otimes x_i x_i^T + s^{-2}\Bigr]
        - \sum_i w_i \bigl[\mathrm{diag}_k(τ_{ik} s_{ik} s_{ik}^T) - \bar s_i \bar s_i^T\bigr],
        \qquad \bar s_i = (τ_{ik} s_{ik})_k .

    Raises
    ------
    numpy.linalg.LinAlgError
        The information is not positive definite: this is no maximum.
    """
    known = np.flatnonzero(data.labels != MISSING)
    features, labels, weights = data.features[known], data.labels[known], data.weights[known]
    share = responsibilities[known]
    k, r, f = parameters.coefficients.shape
    total = np.zeros((k, r * f, k, r * f))
    expected = np.empty((len(known), k, r * f))
    for each, coefficients in enumerate(parameters.coefficients):
        log_p = log_probabilities(features, coefficients)
        mine = weights * share[:, each]
        scores = (residuals(labels, log_p, r)[:, :, None] * features[:, None, :]).reshape(len(known), r * f)
        total[each, :, each] = information(features, mine, log_p, (r, f), parameters.prior_scale)
        total[each, :, each] -= (scores * mine[:, None]).T @ scores
        expected[:, each] = share[:, each, None] * scores
    flat = expected.reshape(len(known), -1)
    found = total.reshape(k * r * f, k * r * f) + (flat * weights[:, None]).T @ flat
    root = np.linalg.cholesky((found + found.T) / 2)
    inverse = np.linalg.solve(root, np.eye(len(root)))
    return inverse.T @ inverse


def separated(parameters: MixtureParameters, data: ClassifierData, responsibilities: Floats) -> NDArray[np.bool_]:
    """Components (K) with rows of two classes or more, all of which are on their own side: without the prior, weights would be infinite."""
    known = np.flatnonzero(data.labels != MISSING)
    labels = data.labels[known]
    found = np.zeros(parameters.n_components, dtype=bool)
    for k, coefficients in enumerate(parameters.coefficients):
        mine = responsibilities[known, k] > _BELONGS
        log_p = log_probabilities(data.features[known[mine]], coefficients)
        found[k] = len(np.unique(labels[mine])) > 1 and bool((log_p.argmax(1) == labels[mine]).all())
    return found
