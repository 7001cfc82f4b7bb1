"""The Poisson log-normal model of series."""

from ._pln_ar import PLNAR

__all__ = ["PLNAR"]
