"""Files that are whole or not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path`, flush to disk, and put in its place in one step.

    Parameters
    ----------
    path
        The file; as long as nothing is whole, what was there stays.
    write
        Writes to the path that it is given.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     replace_file(Path(directory) / "a.txt", lambda path: path.write_text("whole"))
    ...     [(path.name, path.read_text()) for path in Path(directory).iterdir()]
    [('a.txt', 'whole')]
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user's umask has it, where a library makes files for the owner alone
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
