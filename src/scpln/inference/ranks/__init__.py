"""Fits of rising rank, each from the one before, and what is said of them."""

from ._held_out import HeldOut, held_out_cells, thinned
from ._path import RankFit, rank_path
from ._scores import choose, entropies, n_parameters, table_of

__all__ = [
    "HeldOut",
    "RankFit",
    "choose",
    "entropies",
    "held_out_cells",
    "n_parameters",
    "rank_path",
    "table_of",
    "thinned",
]
