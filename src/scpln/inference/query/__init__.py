"""Coefficients of new columns of the design, with everything that was learned before as it is."""

from ._columns import ColumnFit, fit_columns
from ._density import StateDensity
from ._gene_space import fit_pln_columns
from ._prior import CoefficientPrior

__all__ = ["CoefficientPrior", "ColumnFit", "StateDensity", "fit_columns", "fit_pln_columns"]
