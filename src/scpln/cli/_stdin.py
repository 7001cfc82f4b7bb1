"""Standard input in place of a file: ``-``."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ._errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = Path("-")


@contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """Yield `path`, or a copy of standard input if that is ``-``: an ``.h5ad`` is read back and forth, which a pipe cannot be.

    The copy is in the temporary folder (``TMPDIR``), and lives as long as the block.
    """
    if path != STDIN:
        yield path
        return
    if sys.stdin is None or sys.stdin.isatty():
        msg = (
            "- is standard input, and nothing is piped into it; give a file, or pipe an .h5ad: cat FILE.h5ad | scpln …"
        )
        raise CommandError(msg)
    with TemporaryDirectory(prefix="scpln-") as directory:
        copy = Path(directory) / "standard-input.h5ad"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if copy.stat().st_size == 0:
            msg = "standard input (-) is empty; did the command before it fail?"
            raise CommandError(msg)
        try:
            yield copy
        except CommandError as error:
            raise CommandError(str(error).replace(str(copy), "standard input"), error.code) from error
