"""Mixtures of linear classifiers: an estimator of scikit-learn, of arrays, beside the models of counts in AnnData."""

from ._choice import N_FOLDS, Criterion, folds
from ._data import PSEUDO_COUNT
from ._mixture_classifier import MixtureClassifier
from ._plane import Plane, plane_of

__all__ = ["N_FOLDS", "PSEUDO_COUNT", "Criterion", "MixtureClassifier", "Plane", "folds", "plane_of"]
