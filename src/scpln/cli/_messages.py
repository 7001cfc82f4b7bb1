"""What a command says: results on stdout, and what the library has to say meanwhile on stderr, one line each."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ._errors import OutputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


def tell(text: str, *written: Path | None) -> None:
    """Print a result. If that fails, as on a full disk, say which files were written all the same."""
    try:
        _print(text)
    except OutputError as error:
        files = ", ".join(str(path) for path in written if path is not None)
        if not files:
            raise
        msg = f"{error}; written before that: {files}"
        raise OutputError(msg) from error


def flush() -> None:
    """Send what was printed on its way, while there is someone to notice that it cannot go there."""
    _print("")


def _print(text: str) -> None:
    """Print and flush; nothing where stdout is closed, since nobody wants to read it."""
    try:
        print(text, end="\n" if text else "", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        msg = f"cannot write to standard output: {error.strerror or error}"
        raise OutputError(msg) from error


def silence(stream: Any) -> None:
    """Let a stream that fails lead nowhere, so that Python does not fail as it empties it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def stderr_that_may_fail() -> Iterator[None]:
    """Go on without messages where they cannot be written: a closed or full standard error is no reason to fail."""
    for descriptor in range(3):  # or the next file that is opened takes the place of a closed stream
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    stderr = sys.stderr
    sys.stderr = _Forgiving(stderr)
    try:
        yield
    finally:
        sys.stderr = stderr


class _Forgiving:
    """A stream that drops what it cannot write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        self._attempt("flush")

    def _attempt(self, method: str, *arguments: str) -> None:
        try:
            if self._stream is not None:
                getattr(self._stream, method)(*arguments)
        except (OSError, ValueError):
            silence(self._stream)
