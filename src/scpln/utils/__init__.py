"""Checks of arguments, warnings, names in messages, tables in HTML, progress bars."""

from ._arguments import (
    as_bool,
    as_integers,
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
from ._progress import ProgressBar, progress_bar
from ._warnings import deprecated, warn

__all__ = [
    "ProgressBar",
    "as_bool",
    "as_integers",
    "deprecated",
    "description",
    "filled",
    "in_range",
    "keywords",
    "name_of",
    "named",
    "one_of",
    "positive_integer",
    "positive_integer_or_none",
    "positive_number",
    "progress_bar",
    "resolve_seed",
    "table",
    "takes",
    "warn",
]
