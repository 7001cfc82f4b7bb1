"""Counts, linear algebra, threads and files: numpy and scipy only."""

from ._arrays import Array, DType, Rows
from ._count_data import ABSENT, CountData, ranges, working_precision
from ._factorial import log_factorial_sums
from ._files import flush_directory, left_behind, replace_file, sole_writer, write_beside
from ._threads import Threads, available_threads, threads

__all__ = [
    "ABSENT",
    "Array",
    "CountData",
    "DType",
    "Rows",
    "Threads",
    "available_threads",
    "flush_directory",
    "left_behind",
    "log_factorial_sums",
    "ranges",
    "replace_file",
    "sole_writer",
    "threads",
    "working_precision",
    "write_beside",
]
