"""Files that are whole or not there, whoever else writes beside them."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Seconds that a writer waits for another one in its directory, and from one look to the next.
PATIENCE, PAUSE = 600.0, 0.05


@contextmanager
def sole_writer(directory: Path) -> Iterator[bool]:
    """Wait until nobody else writes in a directory by functions of this file, and keep others waiting.

    The system ends the lock with its process, however that ends. Names are unique all the same, so that writers do no harm
    to each other where there are no locks.

    Parameters
    ----------
    directory
        That is there.

    Yields
    ------
    Whether nobody else writes, so that what looks left behind is. False on Windows, on file systems without locks, and
    beside a writer that takes more than ten minutes.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        locked = _lock(descriptor)
        try:
            yield locked
        finally:
            if locked:  # for processes that were forked meanwhile and have the descriptor too
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(PAUSE)
        except OSError:
            return False
        else:
            return True


def write_beside(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a hidden file beside `path`, flush it to disk, and return where it is; nothing stays if that fails."""
    temporary = path.with_name(f".{path.name}.{token_hex(8)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # as the user's umask has it, where a library makes files for the owner alone
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def left_behind(directory: Path, name: str) -> list[Path]:
    """What writers of `name` (a pattern) that were killed left of it; of a `sole_writer`, or it may still be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     for name in (".a.txt.0123456789abcdef.tmp", ".a.txt.mine.tmp", "a.txt"):
    ...         Path(directory, name).touch()
    ...     [path.name for path in left_behind(Path(directory), "a[.]txt")]
    ['.a.txt.0123456789abcdef.tmp']
    """
    # Earlier versions had the number of the process there.
    ours = re.compile(rf"\.({name})\.([0-9a-f]{{16}}|\d{{1,10}})\.tmp")
    return sorted(path for path in directory.iterdir() if ours.fullmatch(path.name))


def flush_directory(directory: Path) -> None:
    """Have names that were given in a directory outlast a power failure, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path`, flush to disk, and put in its place in one step.

    What earlier writers of this file that were killed left beside it is removed.

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
    with sole_writer(path.parent) as alone:
        for stale in left_behind(path.parent, re.escape(path.name)) if alone else ():
            stale.unlink(missing_ok=True)
        temporary = write_beside(path, write)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        flush_directory(path.parent)
