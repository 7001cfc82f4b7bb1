"""Figures of classifiers."""

from ._calibration import reliability, risk_coverage
from ._mixture_classifier import mixture_classifier

__all__ = ["mixture_classifier", "reliability", "risk_coverage"]
