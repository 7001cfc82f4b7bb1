"""Tests of whether genes' means differ between groups of cells or samples, on plain arrays."""

from ._adjust import benjamini_hochberg
from ._counts import FEWEST_FOR_SHIFT, compare_counts
from ._design import independent_columns
from ._result import GeneTests
from ._samples import Samples
from ._shrinkage import Shrunken, shrink
from ._values import compare_values

__all__ = [
    "FEWEST_FOR_SHIFT",
    "GeneTests",
    "Samples",
    "Shrunken",
    "benjamini_hochberg",
    "compare_counts",
    "compare_values",
    "independent_columns",
    "shrink",
]
