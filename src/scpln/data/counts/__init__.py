"""Are these raw counts, or real numbers? Checks of every value, sums, checksums and rounding."""

from ._check import (
    Checksums,
    CountTotals,
    check_counts,
    check_real,
    checksum_weights,
    warn_if_rare,
    warn_if_rounded,
)

__all__ = [
    "Checksums",
    "CountTotals",
    "check_counts",
    "check_real",
    "checksum_weights",
    "warn_if_rare",
    "warn_if_rounded",
]
