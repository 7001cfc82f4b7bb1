"""Discriminant analysis of counts by a Poisson log-normal model."""

from ._pln_lda import PLNLDA

__all__ = ["PLNLDA"]
