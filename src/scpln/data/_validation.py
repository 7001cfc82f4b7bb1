"""Validation of a matrix once where it would be looked at several times, and never from memory of what it was.

Checking all values in memory takes little more than a checksum of them would, so that nothing is gained by remembering
results from one call of a user to the next, and values that were edited in between would go unnoticed. Within one call
(`validated_once`) nobody edits them; and a file on disk that is open for reading says when it was changed.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from numpy.typing import NDArray

Result = TypeVar("Result")

#: Matrices on disk whose results are kept.
MOST_FILES = 16

_scope: ContextVar[dict[Hashable, Any] | None] = ContextVar("validated", default=None)
_files: dict[Hashable, Any] = {}


@contextmanager
def validated_once() -> Iterator[None]:
    """Within this, the values of a matrix are validated once, however often they are read.

    Examples
    --------
    >>> calls = []
    >>> with validated_once():
    ...     for _ in range(3):
    ...         _ = remember(("adata", "X"), None, None, lambda: calls.append("validated"))
    >>> calls
    ['validated']
    """
    if _scope.get() is not None:
        yield
        return
    token = _scope.set({})
    try:
        yield
    finally:
        _scope.reset(token)


def remember(key: tuple[Hashable, ...], matrix: Any, cells: NDArray | None, validate: Callable[[], Result]) -> Result:
    """The result of a validation, which is repeated unless this is known to be the same matrix.

    Parameters
    ----------
    key
        What it is of: the data, the layer, the genes, and what is checked.
    matrix
        Where the values are; of a file, whose results are kept as long as the file stays as it is.
    cells
        Positions of the cells that are looked at; None for all.
    validate
        Looks at the values. Its errors are not kept.
    """
    scope = _scope.get()
    in_file = _state_of_file(matrix) if cells is None else None
    if in_file is not None:
        known: dict[Hashable, Any] | None = _files
        key = (in_file, *key[1:])
    else:
        known = scope
        key = (*key, None if cells is None else cells.tobytes())
    if known is None:
        return validate()
    if key not in known:
        known[key] = validate()
        while known is _files and len(known) > MOST_FILES:
            del known[next(iter(known))]
    return known[key]


def _state_of_file(matrix: Any) -> Hashable | None:
    """Which dataset of which file, and when that was changed; None unless it is one that can only be read."""
    columns = getattr(matrix, "columns", None)
    matrix = getattr(matrix, "rows", matrix)
    group = getattr(matrix, "group", matrix)
    file = getattr(group, "file", None)
    if file is None or getattr(file, "mode", "") != "r":
        return None
    try:
        status = Path(file.filename).stat()
    except OSError:
        return None
    chosen = None if columns is None else columns.tobytes()
    return str(file.filename), str(group.name), chosen, status.st_mtime_ns, status.st_size, status.st_ino
