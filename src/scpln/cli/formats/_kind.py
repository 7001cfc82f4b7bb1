"""What a file is, by what is in it; a file of a wrong kind is named in plain words."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

from scpln.cli._errors import CommandError
from scpln.cli._files import is_zarr

if TYPE_CHECKING:
    from pathlib import Path


class Kind(Enum):
    """Kinds of files that can be read."""

    H5AD = "AnnData .h5ad"
    H5MU = "MuData .h5mu"
    ZARR = "AnnData .zarr"
    ZARR_MUDATA = "MuData .zarr"
    TENX = "10x .h5"


MUDATA = (Kind.H5MU, Kind.ZARR_MUDATA)
HDF5 = (Kind.H5AD, Kind.H5MU, Kind.TENX)
READABLE = "an .h5ad, .h5mu, .zarr or 10x .h5"
_HOW = "read it in Python, as by {reader}, and write it by adata.write_h5ad('counts.h5ad')"
_PACKED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
}
"""Beginnings of compressed files, and what unpacks them."""


def kind_of(path: Path) -> Kind:
    """The kind of a file, or an error that says what it is instead."""
    if not path.exists():
        msg = f"no such file: {path}"
        raise CommandError(msg)
    if path.is_dir():
        return _kind_of_directory(path)
    if not path.is_file():
        msg = f"{path} is a pipe or a device: write the data to a file, and pass that"
        raise CommandError(msg)
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise CommandError(msg) from error
    import h5py

    if h5py.is_hdf5(path):
        return _kind_of_hdf5(path)
    msg = f"{path} is {_what_instead(start)}"
    raise CommandError(msg)


def holds_mudata(path: Path) -> bool:
    """Whether a path is that of a MuData: by its name, or the attributes of a ``.zarr``; it need not exist."""
    return path.suffix == ".h5mu" or (path.is_dir() and _attributes(path).get("encoding-type") == "MuData")


def _kind_of_directory(path: Path) -> Kind:
    if is_zarr(path):
        return Kind.ZARR_MUDATA if holds_mudata(path) else Kind.ZARR
    how = _HOW.format(reader=f"scanpy.read_10x_mtx({str(path)!r})")
    is_mtx = any(path.glob("*matrix.mtx*"))
    msg = (
        f"{path} is a directory{f' of 10x .mtx files: {how}' if is_mtx else f', and none of a .zarr: pass {READABLE}'}"
    )
    raise CommandError(msg)


def _attributes(path: Path) -> dict[str, Any]:
    """Attributes at the top of a ``.zarr``, of either version of the format."""
    for name in (".zattrs", "zarr.json"):
        try:
            found = json.loads((path / name).read_text(encoding="utf-8"))
            return found["attributes"] if name == "zarr.json" else found
        except (OSError, ValueError, KeyError):
            continue
    return {}


def _kind_of_hdf5(path: Path) -> Kind:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            told, names = file.attrs.get("encoding-type"), set(file)
            groups = [{*group} for group in file.values() if isinstance(group, h5py.Group)]
    except (OSError, RuntimeError) as error:
        msg = f"{path} is damaged or was cut short, as in a copy: get it again"
        raise CommandError(msg) from error
    if told == "MuData" or {"mod", "obs"} <= names:
        return Kind.H5MU
    if told == "anndata" or {"obs", "var"} <= names:
        return Kind.H5AD
    if {"row_attrs", "col_attrs"} <= names:
        msg = f"{path} is a .loom file: {_HOW.format(reader='scanpy.read_loom')}"
        raise CommandError(msg)
    if any({"barcodes", "data", "indices", "indptr"} <= group for group in groups):
        return Kind.TENX
    listed = ", ".join(sorted(names)[:5]) or "nothing"
    msg = f"{path} is an HDF5 file, but not of cells by genes (it holds {listed}): pass {READABLE}"
    raise CommandError(msg)


def _what_instead(start: bytes) -> str:
    """What a file is that begins so, and what to do."""
    if not start:
        return f"empty: pass {READABLE}"
    for beginning, tool in _PACKED.items():
        if start.startswith(beginning):
            return f"compressed as a whole: unpack it first, as by {tool}"
    if b"\0" not in start:
        how = _HOW.format(reader="scanpy.read_csv (cells in rows) or scanpy.read_mtx")
        return f"a text file, such as a table of counts: {how}"
    return f"of a kind that is not known here, or damaged: pass {READABLE}"
