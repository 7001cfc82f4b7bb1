"""Checks of arguments, warnings, names in messages, tables in HTML, progress bars."""

from ._arguments import (
    LARGEST_SEED,
    MOST_DRAWS,
    as_bool,
    as_integers,
    as_mapping,
    as_names,
    as_number,
    check_belongs,
    in_range,
    one_of,
    positive_integer,
    positive_integer_or_none,
    positive_number,
    resolve_seed,
)
from ._html import description, table
from ._keywords import filled, keywords, takes
from ._naming import name_of, named
from ._progress import ProgressBar, progress_bar, slow_bar, watched
from ._storable import is_storable, shortened, storable_name
from ._warnings import deprecated, warn

__all__ = [
    "LARGEST_SEED",
    "MOST_DRAWS",
    "ProgressBar",
    "as_bool",
    "as_integers",
    "as_mapping",
    "as_names",
    "as_number",
    "check_belongs",
    "deprecated",
    "description",
    "filled",
    "in_range",
    "is_storable",
    "keywords",
    "name_of",
    "named",
    "one_of",
    "positive_integer",
    "positive_integer_or_none",
    "positive_number",
    "progress_bar",
    "resolve_seed",
    "shortened",
    "slow_bar",
    "storable_name",
    "table",
    "takes",
    "warn",
    "watched",
]
