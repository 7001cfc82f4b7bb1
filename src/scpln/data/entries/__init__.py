"""Entries of the counts: offsets of their own, and which of them were observed."""

from ._field import ENTRIES_KEY, EntriesField
from ._observed import observed_rows, read_mask

__all__ = ["ENTRIES_KEY", "EntriesField", "observed_rows", "read_mask"]
