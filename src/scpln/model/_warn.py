"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import scvi

_INSIDE = tuple(str(Path(file).parent) for file in (Path(__file__).parent, scvi.__file__))


def warn(message: str) -> None:
    """Warn at the innermost line outside scpln and scvi-tools: the call that the user wrote."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
