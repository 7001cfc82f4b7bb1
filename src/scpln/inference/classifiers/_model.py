"""Data, parameters, and the joint distribution of a mixture of linear classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._logistic import log_prior, log_probabilities
from ._special import log_sum_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._components import Components

    Floats = NDArray[np.float64]

#: Code of a label that is missing.
MISSING = -1


@dataclass(frozen=True)
class ClassifierData:
    """Rows that a model is fitted to.

    Attributes
    ----------
    statistics
        What densities are computed from (n × p), as the family of components leaves it.
    features
        Design of the classifiers (n × f): a column of ones, and features on one scale.
    labels
        Codes of classes (n), −1 where a label is missing.
    weights
        Weights of the rows (n), all positive; one of 2 is the row twice.
    n_classes
        C.
    """

    statistics: Floats
    features: Floats
    labels: NDArray[np.intp]
    weights: Floats
    n_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: NDArray) -> ClassifierData:
        """Some of the rows."""
        return ClassifierData(
            self.statistics[rows], self.features[rows], self.labels[rows], self.weights[rows], self.n_classes
        )


@dataclass(frozen=True)
class MixtureParameters:
    """π (K), the components, coefficients of the classifiers (K × R × f) and the scale of their prior."""

    weights: Floats
    components: Components
    coefficients: Floats
    prior_scale: float = 2.5

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def n_parameters(self) -> int:
        """Free ones: K − 1 of π, the components', and (C − 1) f of each classifier."""
        k, rows, f = self.coefficients.shape
        return k - 1 + self.components.n_parameters + k * max(rows - 1, 1) * f

    @property
    def log_prior(self) -> float:
        """Of the components and the coefficients, up to a constant, nats."""
        return self.components.log_prior + log_prior(self.coefficients, self.prior_scale)

    def subset(self, kept: NDArray[np.intp]) -> MixtureParameters:
        """Some of the components, with π that adds up to 1."""
        weights = self.weights[kept] / self.weights[kept].sum()
        return MixtureParameters(weights, self.components.subset(kept), self.coefficients[kept], self.prior_scale)


def log_classes(parameters: MixtureParameters, features: Floats) -> Floats:
    """Log p_k(y = c | x_i), n × K × C."""
    return np.stack([log_probabilities(features, each) for each in parameters.coefficients], axis=1)


def log_joint(parameters: MixtureParameters, data: ClassifierData, *, with_labels: bool = True) -> Floats:
    """Log π_k + log f_k(x_i) + log p_k(y_i | x_i), n × K; the last of rows that have a label."""
    found = np.log(parameters.weights) + parameters.components.log_prob(data.statistics)
    if with_labels:
        known = np.flatnonzero(data.labels != MISSING)
        features, labels = data.features[known], data.labels[known]
        for k, coefficients in enumerate(parameters.coefficients):
            found[known, k] += log_probabilities(features, coefficients)[np.arange(len(known)), labels]
    return found


def log_likelihood(parameters: MixtureParameters, data: ClassifierData, *, with_labels: bool = True) -> Floats:
    """Log p(x_i, y_i) of each row (n), nats; log p(x_i) without labels."""
    return log_sum_exp(log_joint(parameters, data, with_labels=with_labels))[:, 0]


def component_probabilities(parameters: MixtureParameters, data: ClassifierData, *, with_labels: bool = True) -> Floats:
    """p(z_i = k | x_i, y_i), n × K; given x_i only without labels, and where there is none."""
    joint = log_joint(parameters, data, with_labels=with_labels)
    return np.exp(joint - log_sum_exp(joint))


def log_class_probabilities(parameters: MixtureParameters, data: ClassifierData) -> Floats:
    """Log p(y = c | x_i) = log Σ_k p(z = k | x_i) p_k(c | x_i), n × C; labels are not looked at."""
    joint = log_joint(parameters, data, with_labels=False)
    given_x = joint - log_sum_exp(joint)
    return log_sum_exp(given_x[:, :, None] + log_classes(parameters, data.features), axis=1)[:, 0]
