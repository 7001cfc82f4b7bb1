"""Categories of a column: their values as text, codes of cells, and the same categories found in other data."""

from ._coding import Coding, match
from ._groups import Comparison
from ._text import as_text, restore

__all__ = ["Coding", "Comparison", "as_text", "match", "restore"]
