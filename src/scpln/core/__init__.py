"""Counts, linear algebra, threads and files: numpy and scipy only."""

from ._arrays import Array, DType, Rows
from ._compressed import canonical, compressed, native
from ._contrasts import Siblings, TreeContrasts, helmert
from ._count_data import CountData, ranges, working_precision
from ._entries import ABSENT, Entries
from ._factorial import log_factorial_sums
from ._files import flush_directory, left_behind, replace_file, sole_writer, write_beside
from ._interrupts import Held, after_training, hold_interrupts
from ._rising import digamma_rising, log_rising
from ._threads import Threads, available_threads, threads
from ._tree import Tree

__all__ = [
    "ABSENT",
    "Array",
    "CountData",
    "DType",
    "Entries",
    "Held",
    "Rows",
    "Siblings",
    "Threads",
    "Tree",
    "TreeContrasts",
    "after_training",
    "available_threads",
    "canonical",
    "compressed",
    "digamma_rising",
    "flush_directory",
    "helmert",
    "hold_interrupts",
    "left_behind",
    "log_factorial_sums",
    "log_rising",
    "native",
    "ranges",
    "replace_file",
    "sole_writer",
    "threads",
    "working_precision",
    "write_beside",
]
