"""The model in gene space for series: samples in an order, of which each depends on the one before it."""

from ._fit import SeriesResult, check_order, fit_pln_series
from ._infer import SeriesPosteriors, infer_pln_series
from ._order import Order
from ._process import AutoregressionName, Process

__all__ = [
    "AutoregressionName",
    "Order",
    "Process",
    "SeriesPosteriors",
    "SeriesResult",
    "check_order",
    "fit_pln_series",
    "infer_pln_series",
]
