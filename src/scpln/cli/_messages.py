"""What the library has to say while a command runs: one line each, on stderr."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator


def add_message_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("messages")
    group.add_argument("--quiet", action="store_true", help="say nothing but results that were asked for, and errors")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


@contextmanager
def route_messages(*, quiet: bool, said: Callable[[str], str] = str) -> Iterator[None]:
    """Send what the library warns of to stderr, in other words (`said`), or nowhere if `quiet`."""
    logger, cost = logging.getLogger("scpln"), logging.getLogger("scpln.cost")
    level, handler = logger.level, _Stderr(said)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.WARNING)
    cost.setLevel(logging.ERROR if quiet else logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not quiet:
            warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_where, **_more: _show_warning(said(str(message)))
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            cost.setLevel(logging.NOTSET)


class _Stderr(logging.Handler):
    def __init__(self, said: Callable[[str], str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        print(f"scpln: {record.levelname.lower()}: {self._said(record.getMessage())}", file=sys.stderr)


def _show_warning(message: str) -> None:
    print(f"scpln: warning: {' '.join(message.split())}", file=sys.stderr)
