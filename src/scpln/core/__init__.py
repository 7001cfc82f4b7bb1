"""Counts, linear algebra and threads: numpy and scipy only."""

from ._arrays import Array, DType, Rows
from ._count_data import ABSENT, CountData, ranges, working_precision
from ._factorial import log_factorial_sums
from ._threads import Threads, available_threads, threads

__all__ = [
    "ABSENT",
    "Array",
    "CountData",
    "DType",
    "Rows",
    "Threads",
    "available_threads",
    "log_factorial_sums",
    "ranges",
    "threads",
    "working_precision",
]
