"""Reading the input with a clear word when it fails, and outputs that are whole or not there."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ._errors import CommandError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData


def read_h5ad(path: Path) -> AnnData:
    """Read an AnnData from a file of any kind, or say in one line why that cannot be done."""
    from .formats import holds_mudata, read

    data = None if holds_mudata(path) and path.exists() else read(path)
    if data is None or hasattr(data, "mod"):
        msg = (
            f"{path} is a MuData, and this command reads an AnnData: write one of its modalities as .h5ad. `scpln fit` models "
            "several together, as does Python, from scpln.model.setup_mudata on"
        )
        raise CommandError(msg)
    return data


def read_h5mu(path: Path) -> MuData:
    """The same of a MuData."""
    from .formats import read

    data = read(path)
    if not hasattr(data, "mod"):
        msg = f"{path} is no MuData, although its name ends in {path.suffix}: give it the name of what it is"
        raise CommandError(msg)
    return data


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
    path, given = Path(os.path.realpath(path)), path  # what a link leads to is replaced, and the link stays
    if path.exists() and not (path.is_dir() or path.is_file()):
        msg = f"{given} is a pipe or a device, which nothing replaces; choose another name"
        raise OutputError(msg)
    directory = directory or given.suffix == ".zarr"
    if path.is_dir() != directory and path.exists():
        msg = f"{given} is a {'file' if directory else 'directory'}; choose another name"
        raise OutputError(msg)
    if given.suffix == ".zarr" and path.exists() and any(path.iterdir()) and not is_zarr(path):
        msg = f"{given} is a directory that is no .zarr, and would be lost; choose another name"
        raise OutputError(msg)
    if not force and (any(path.iterdir()) if path.is_dir() else path.exists()):
        msg = f"{given} exists already; add --force to replace it"
        raise OutputError(msg)
    if not path.parent.is_dir():
        folder = given.parent if given.parent.resolve() == path.parent else path.parent
        msg = f"{given}: there is no directory {folder}; make it first (mkdir -p {shlex.quote(str(folder))})"
        raise OutputError(msg)
    try:
        TemporaryDirectory(dir=path.parent).cleanup()
    except OSError as error:
        msg = f"{given}: cannot write in {path.parent}: {error.strerror or error}"
        raise OutputError(msg) from error


def is_zarr(path: Path) -> bool:
    """Whether a directory is that of a ``.zarr``, of either version of the format."""
    return any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json"))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which becomes `path` only if the body succeeds; a link to it stays a link."""
    target = Path(os.path.realpath(path))
    try:
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.stem[:100]}-") as directory:
            temporary = Path(directory) / path.name
            yield temporary
            _replace(temporary, target, Path(directory) / "replaced")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise OutputError(msg) from error


def _replace(temporary: Path, target: Path, aside: Path) -> None:
    """Put a file in the place of another, or a directory, which is moved aside first; a failure leaves what was there."""
    if not target.is_dir():
        os.replace(temporary, target)  # noqa: PTH105 (its name says what it is: atomic)
        return
    target.rename(aside)
    try:
        temporary.rename(target)
    except OSError:
        aside.rename(target)
        raise
