"""Reading the input with a clear word when it fails, and outputs that are whole or not there."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ._errors import CommandError, OutputError
from ._stdin import STDIN, on_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData


def read_h5ad(path: Path) -> AnnData:
    """Read an ``.h5ad``, or say in one line why that cannot be done; ``-`` is standard input."""
    import anndata as ad

    if path == STDIN:
        with on_disk(path) as copy:
            return read_h5ad(copy)
    _require_file(path)
    if path.suffix == ".h5mu":
        msg = (
            f"{path} is a MuData, and this command reads an AnnData: write one of its modalities as .h5ad. `scpln fit` models "
            "several together, as does Python, from scpln.model.setup_mudata on"
        )
        raise CommandError(msg)
    try:
        return ad.read_h5ad(path)
    except Exception as error:
        msg = f"cannot read {path} as an AnnData .h5ad file: {error}"
        raise CommandError(msg) from error


def read_h5mu(path: Path) -> MuData:
    """The same of an ``.h5mu``."""
    import mudata as md

    _require_file(path)
    try:
        return md.read_h5mu(path)
    except Exception as error:
        msg = f"cannot read {path} as a MuData .h5mu file: {error}"
        raise CommandError(msg) from error


def _require_file(path: Path) -> None:
    if not path.exists():
        msg = f"no such file: {path}"
        raise CommandError(msg)


def check_output(path: Path, *, force: bool, suffixes: tuple[str, ...] = (), directory: bool = False) -> None:
    """Refuse, before any work is done, an output that could not be written after it.

    Parameters
    ----------
    path
        The output.
    force
        Whether an existing one may be replaced.
    suffixes
        File name endings that are understood; any, when empty.
    directory
        Whether the output is a directory, which may exist if it is empty.
    """
    if suffixes and path.suffix not in suffixes:
        msg = f"{path}: the name must end in {' or '.join(suffixes)}"
        raise OutputError(msg)
    if path.is_dir() != directory and path.exists():
        msg = f"{path} is a {'file' if directory else 'directory'}; choose another name"
        raise OutputError(msg)
    if not force and (any(path.iterdir()) if path.is_dir() else path.exists()):
        msg = f"{path} exists already; add --force to replace it"
        raise OutputError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"{path}: there is no directory {path.parent}; make it first (mkdir -p {path.parent})"
        raise OutputError(msg)
    try:
        TemporaryDirectory(dir=path.absolute().parent).cleanup()
    except OSError as error:
        msg = f"{path}: cannot write in {path.absolute().parent}: {error.strerror or error}"
        raise OutputError(msg) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which becomes `path` only if the body succeeds."""
    try:
        with TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.stem}-") as directory:
            temporary = Path(directory) / path.name
            yield temporary
            os.replace(temporary, path)  # noqa: PTH105 (its name says what it is: atomic)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise OutputError(msg) from error
