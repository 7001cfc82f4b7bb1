"""A file for HDF5 that stays usable when the disk does not: the failure waits until the file is closed."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

#: Bytes of the largest piece that is kept after a failure: HDF5 reads its own tables again, and large arrays never.
MOST_KEPT = 2**22


class DeferringFile(io.RawIOBase):
    """A file opened for writing, whose first failure is kept in `failure`, and raised when the block is left.

    Where a write fails within HDF5, as on a full disk, it cannot close its file any more, and the process ends in a
    segmentation fault. Here writing seems to succeed: what comes after the failure is kept in memory as far as HDF5 reads
    it again, and thrown away otherwise.

    Parameters
    ----------
    path
        Name of the file, which is made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self._path = path
        self._file = path.open("w+b", buffering=0)
        self._position = self._size = 0
        self._kept: list[tuple[int, bytes]] = []

    def __exit__(self, *_error: object) -> None:
        self.close()
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        return self

    def __fspath__(self) -> str:
        return os.fspath(self._path)

    def close(self) -> None:
        """Close the file."""
        if not self._file.closed:
            try:
                self._file.close()
            except OSError as error:
                self.failure = self.failure or error
        super().close()

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def seekable(self) -> bool:
        """Whether there is a position: yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        self._size = self._position if size is None else size
        if self.failure is None:
            try:
                self._file.truncate(self._size)
            except OSError as error:
                self.failure = error
        return self._size

    def write(self, data: object) -> int:
        """Write at the position, or keep it in memory if that failed once."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        start, done = self._position, 0
        try:
            if self.failure is None:
                self._file.seek(start)
                while done < len(view):
                    done += self._file.write(view[done:])
        except OSError as error:
            self.failure = error
        if self.failure is not None and len(view) <= MOST_KEPT:
            self._kept.append((start, bytes(view)))
        self._position = start + len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: object) -> int:
        """Read from the position on, with zeros for what was thrown away."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        start, end = self._position, min(self._position + len(view), self._size)
        self._file.seek(start)
        there = self._file.readinto(view) or 0
        view[there:] = bytes(len(view) - there)
        for at, data in self._kept:
            first, last = max(at, start), min(at + len(data), end)
            if first < last:
                view[first - start : last - start] = data[first - at : last - at]
        self._position = max(start, end)
        return max(0, end - start)
