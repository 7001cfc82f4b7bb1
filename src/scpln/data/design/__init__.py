"""The design matrix X: of keys, or of a formula."""

from ._base import Design
from ._columns import (
    as_list,
    check_categories,
    get_categories,
    get_codes,
    get_coding,
    get_column,
    get_numbers,
    new_categories,
)
from ._syntax import columns_in

__all__ = [
    "Design",
    "as_list",
    "check_categories",
    "columns_in",
    "get_categories",
    "get_codes",
    "get_coding",
    "get_column",
    "get_numbers",
    "new_categories",
]
