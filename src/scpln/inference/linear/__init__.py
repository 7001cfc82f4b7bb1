"""Linear layers with a normal distribution over their weights: labels by softmax regression, values by linear regression."""

from ._calibrate import abstention_threshold, best_temperature, conformal_quantile, label_sets
from ._classify import (
    LabelWeights,
    divergence,
    evidence_bound,
    expected_log_probability,
    fit_label_weights,
    prior_precision,
)
from ._distances import ClassDistances
from ._predict import LabelPrediction, draw_weights, entropy, predict_labels
from ._regress import ValueWeights, fit_value_weights
from ._scores import N_BINS, label_scores, reliability_table, risk_coverage_table
from ._weights import COVARIANCES, CovarianceName, DiagonalCovariance, FullCovariance, WeightCovariance, softmax

__all__ = [
    "COVARIANCES",
    "N_BINS",
    "ClassDistances",
    "CovarianceName",
    "DiagonalCovariance",
    "FullCovariance",
    "LabelPrediction",
    "LabelWeights",
    "ValueWeights",
    "WeightCovariance",
    "abstention_threshold",
    "best_temperature",
    "conformal_quantile",
    "divergence",
    "draw_weights",
    "entropy",
    "evidence_bound",
    "expected_log_probability",
    "fit_label_weights",
    "fit_value_weights",
    "label_scores",
    "label_sets",
    "predict_labels",
    "prior_precision",
    "reliability_table",
    "risk_coverage_table",
    "softmax",
]
