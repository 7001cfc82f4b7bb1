"""Writing a file as its input was: with its compression; and whether there is room for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln.cli._errors import OutputError
from scpln.cli._files import whole_file
from scpln.cli._stdin import STDIN

from ._kind import HDF5, kind_of

if TYPE_CHECKING:
    from scpln.data import Data


def layout_of(path: Path) -> dict[str, Any]:
    """Compression of the arrays of a file, for those of the file that is made from it; empty for none.

    Parameters
    ----------
    path
        A file that can be read; of standard input, which is read once, it is not known.
    """
    if path == STDIN or kind_of(path) not in HDF5:
        return {}
    import h5py

    found: list[dict[str, Any]] = []

    def look(_name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset) and item.compression in ("gzip", "lzf"):
            options = {} if item.compression_opts is None else {"compression_opts": item.compression_opts}
            found.append({"compression": item.compression, **options})
        return bool(found) or None  # the first is enough

    with h5py.File(path, "r") as file:
        file.visititems(look)
    return found[0] if found else {}


def require_room(path: Path, source: Path) -> None:
    """Refuse an output for which there is less room than its input takes, before any work is done.

    Parameters
    ----------
    path
        The output.
    source
        The input, all of which the output will hold.
    """
    if source == STDIN or (path.suffix == ".zarr") != source.is_dir():
        return  # of unknown size, or compressed in other ways
    files = source.rglob("*") if source.is_dir() else [source]
    needed = sum(file.stat().st_size for file in files if file.is_file())
    folder = Path(path).resolve().parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        msg = f"{path}: {folder} has {free / 1e6:,.1f} MB of free space, and the file will take more than {needed / 1e6:,.1f} MB"
        raise OutputError(msg)


def write(path: Path, data: Data, layout: dict[str, Any] | None = None) -> None:
    """Write a file that is whole or not there.

    Parameters
    ----------
    path
        The output, whose name says which kind it is.
    data
        The cells.
    layout
        Compression of arrays, from `layout_of`; of a ``.zarr``, all are compressed.
    """
    from scpln.data.storage import write_data

    with whole_file(path) as temporary:
        write_data(temporary, data, **({} if path.suffix == ".zarr" else layout or {}))
