"""Summaries for machines: JSON in a file that is whole or not there, or on standard output."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from ._errors import OutputError
from ._files import check_output, whole_file
from ._messages import tell

STDOUT = Path("-")


def add_summary_option(group: Any) -> None:
    """Add the option that asks for a summary in JSON."""
    group.add_argument(
        "--summary",
        "--json",
        type=Path,
        metavar="FILE.json",
        help="write the summary as JSON for machines, too; - prints it in place of the text",
    )


def check_summary(path: Path | None, *, force: bool) -> None:
    """Refuse, before any work is done, a file that could not be written after it."""
    if path == STDOUT and sys.stdout is None:
        msg = "--summary - prints on standard output, which is closed; name a file"
        raise OutputError(msg)
    if path is not None and path != STDOUT:
        check_output(path, force=force, suffixes=(".json",))


def give_summary(summary: dict[str, Any], text: str, path: Path | None, *, quiet: bool) -> None:
    """Write a summary where it was asked for, and print it as text unless that is not wanted."""
    written = [*summary.get("outputs", {}).values()]
    if path is not None:
        found = json.dumps(_finite(summary), indent=2, ensure_ascii=path == STDOUT, allow_nan=False)
        if path == STDOUT:
            tell(found, *written)
            return
        with whole_file(path) as temporary:
            temporary.write_text(found + "\n", encoding="utf-8")
    if not quiet:
        tell(text, *written, path)


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for.

    Examples
    --------
    >>> _finite({"bound": float("nan"), "sizes": [1, 2.5], "out": Path("a.h5ad")})
    {'bound': None, 'sizes': [1, 2.5], 'out': 'a.h5ad'}
    """
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
