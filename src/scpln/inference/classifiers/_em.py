"""Expectation maximisation of a mixture of linear classifiers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ._logistic import fit_logistic
from ._model import MISSING, MixtureParameters, log_joint
from ._special import log_sum_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._model import ClassifierData

    Floats = NDArray[np.float64]

#: Newton steps of a classifier in a step of maximisation.
_STEPS = 2
#: A component of fewer rows than this is empty.
EMPTY = 1e-2


@dataclass(frozen=True)
class Run:
    """Where expectation maximisation came to.

    Attributes
    ----------
    parameters
        The last ones.
    responsibilities
        p(z_i = k | x_i, y_i) under these (n × K).
    path
        Penalised log-likelihood before each step since a component was last dropped, and after the last step, nats; it never falls.
    log_likelihood
        The same at the end without the prior.
    n_steps
        Steps in all.
    n_dropped
        Components that became empty.
    converged
        Whether a step gained less than the tolerance.
    """

    parameters: MixtureParameters
    responsibilities: Floats
    path: Floats
    log_likelihood: float
    n_steps: int
    n_dropped: int
    converged: bool

    @property
    def objective(self) -> float:
        """Last penalised log-likelihood, nats."""
        return float(self.path[-1])


def expectation(parameters: MixtureParameters, data: ClassifierData) -> tuple[Floats, float]:
    """Responsibilities (n × K), and the log-likelihood, nats, in logarithms throughout."""
    joint = log_joint(parameters, data)
    row = log_sum_exp(joint)
    return np.exp(joint - row), float(data.weights @ row[:, 0])


def maximization(
    parameters: MixtureParameters, data: ClassifierData, responsibilities: Floats, *, steps: int = _STEPS
) -> MixtureParameters:
    """Parameters under which the expected complete penalised log-likelihood is no less.

    π and Gaussian components are at their maximum; α and coefficients take Newton steps, each of which raises it.
    """
    weighted = responsibilities * data.weights[:, None]
    sizes = weighted.sum(0)
    known = np.flatnonzero(data.labels != MISSING)
    features, labels, of_known = data.features[known], data.labels[known], weighted[known]
    coefficients = np.array(
        [
            fit_logistic(features, labels, of_known[:, k], each, scale=parameters.prior_scale, max_steps=steps)
            for k, each in enumerate(parameters.coefficients)
        ]
    )
    components = parameters.components.maximized(data.statistics, weighted)
    return replace(parameters, weights=sizes / sizes.sum(), components=components, coefficients=coefficients)


def run_em(parameters: MixtureParameters, data: ClassifierData, *, max_steps: int = 500, tol: float = 1e-6) -> Run:
    """Steps until one gains less than `tol` nats for each unit of weight.

    The observed penalised log-likelihood decides, not the expected one, whose weights change from step to step. Components of less than a
    hundredth of a row are dropped, and the path begins anew.
    """
    total, n_dropped, converged = data.weights.sum(), 0, False
    responsibilities, fit = expectation(parameters, data)
    path = [fit + parameters.log_prior]
    step = 0
    while step < max_steps and not converged:
        kept = np.flatnonzero(data.weights @ responsibilities >= EMPTY)
        if 0 < len(kept) < parameters.n_components:
            n_dropped += parameters.n_components - len(kept)
            parameters = parameters.subset(kept)
            responsibilities, fit = expectation(parameters, data)
            path = [fit + parameters.log_prior]
        parameters = maximization(parameters, data, responsibilities)
        responsibilities, fit = expectation(parameters, data)
        path.append(fit + parameters.log_prior)
        step += 1
        if not np.isfinite(path[-1]):
            break
        converged = bool(path[-1] - path[-2] < tol * total)
    return Run(parameters, responsibilities, np.array(path), fit, step, n_dropped, converged)
