"""Cells with codes: bounds of their log-likelihoods, better codes, and the prior of codes."""

from ._bounds import CodeBounds, code_bounds, improve_codes, summed_bound
from ._fit_prior import fit_code_prior

__all__ = ["CodeBounds", "code_bounds", "fit_code_prior", "improve_codes", "summed_bound"]
