"""Warnings that point at the user's own line."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from ._naming import renamed

_SCVI = find_spec("scvi")
_INSIDE = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(__file__).parents[1], *((_SCVI.submodule_search_locations or ()) if _SCVI else ()))
)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside scpln and scvi-tools: the call that the user wrote."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(renamed(message), category, stacklevel=level)


def deprecated(old: str, new: str) -> None:
    """Warn, at the user's line, that a name still works and what it is called now.

    Parameters
    ----------
    old, new
        What was typed, and what to type instead.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as found:
    ...     warnings.simplefilter("always")
    ...     deprecated("sample()", "prior_predictive_sample()")
    >>> print(found[0].category.__name__, found[0].message, sep=": ")
    FutureWarning: sample() is deprecated, and a later release will not have it. Write prior_predictive_sample().
    """
    warn(f"{old} is deprecated, and a later release will not have it. Write {new}.", FutureWarning)
