"""Names given on the command line that must exist in the file."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from ._errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_SHOWN = 10


def require(option: str, name: str | None, known: Iterable[str], where: str) -> None:
    """Raise unless `name` was not given or is among the `known`.

    Examples
    --------
    >>> require("--layer", "count", ["counts", "raw"], "layers")
    Traceback (most recent call last):
    ...
    scpln.cli._errors.CommandError: --layer 'count' is not in layers (found: 'counts', 'raw'); did you mean 'counts'?
    """
    known = list(map(str, known))
    if name is None or name in known:
        return
    found = ", ".join(map(repr, known[:MOST_SHOWN])) or "nothing"
    more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    msg = f"{option} {name!r} is not in {where} (found: {found}{more}){hint}"
    raise CommandError(msg)
