"""Mixtures of linear classifiers: each component has its own density of x and its own logistic regression of y.

p(x, y, z = k) = π_k f_k(x) p_k(y | x), with Gaussian, Dirichlet or Dirichlet-multinomial f; the generalised linear cluster-weighted model
(Ingrassia, Punzo and Vittadini, 2015) where they are Gaussian.
"""

from ._components import Components
from ._criteria import bic, entropy, icl, mutual_information
from ._dirichlet import DirichletComponents, dirichlet_fixed_point, dirichlet_newton
from ._dirichlet_multinomial import DirichletMultinomialComponents
from ._em import Run, expectation, maximization, run_em
from ._errors import coefficient_covariance, separated
from ._features import Scaling, centred_log_ratio
from ._fit import COMPONENTS, ComponentsName, FitOptions, family, fit_mixture_classifier, start_parameters
from ._gaussian import COVARIANCES, Covariance, GaussianComponents
from ._logistic import fit_logistic, log_probabilities
from ._model import (
    MISSING,
    ClassifierData,
    MixtureParameters,
    component_probabilities,
    log_class_probabilities,
    log_classes,
    log_joint,
    log_likelihood,
)
from ._special import inverse_digamma, trigamma

__all__ = [
    "COMPONENTS",
    "COVARIANCES",
    "MISSING",
    "ClassifierData",
    "Components",
    "ComponentsName",
    "Covariance",
    "DirichletComponents",
    "DirichletMultinomialComponents",
    "FitOptions",
    "GaussianComponents",
    "MixtureParameters",
    "Run",
    "Scaling",
    "bic",
    "centred_log_ratio",
    "coefficient_covariance",
    "component_probabilities",
    "dirichlet_fixed_point",
    "dirichlet_newton",
    "entropy",
    "expectation",
    "family",
    "fit_logistic",
    "fit_mixture_classifier",
    "icl",
    "inverse_digamma",
    "log_class_probabilities",
    "log_classes",
    "log_joint",
    "log_likelihood",
    "log_probabilities",
    "maximization",
    "mutual_information",
    "run_em",
    "separated",
    "start_parameters",
    "trigamma",
]
