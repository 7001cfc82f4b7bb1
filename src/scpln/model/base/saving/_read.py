"""Read a saved model, checking that it is whole, unchanged, and in its directory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import torch
from anndata.io import read_h5ad
from mudata import read_h5mu, set_options
from safetensors.torch import load_file

from ._check import check_metadata, check_sizes
from ._document import DESCRIPTION, MDATA, SCHEMA_VERSION, Document, digest_of_file, model_file

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from scpln.data import Data

    from ._document import Entry

    Check = Callable[[Path, dict[str, Any], Mapping[str, torch.Tensor] | None], None]

#: How often a model that others replace meanwhile is read anew.
TRIES = 50
_REMEDY = "Save the model again."


@dataclass(frozen=True)
class SavedModel:
    """What a directory holds: metadata, tensors, and the AnnData or MuData if it was read."""

    metadata: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    path: Path
    adata: Data | None

    @contextmanager
    def described(self) -> Iterator[None]:
        """Say of any error within, where nothing but what is saved is used, that this is damaged."""
        with _damage(self.path, _REMEDY):
            yield


def check_model(path: Path, metadata: dict[str, Any], tensors: Mapping[str, torch.Tensor] | None) -> None:
    """Refuse metadata that no model of counts has; and, once tensors are read, sizes that these belie."""
    if tensors is None:
        check_metadata(path, metadata)
    else:
        check_sizes(path, metadata, tensors)


def read_model(
    dir_path: str | os.PathLike, prefix: str | None = None, *, with_adata: bool = False, check: Check = check_model
) -> SavedModel:
    """Read a model directory, checking that it is whole and unchanged; anew, if it is replaced meanwhile.

    Parameters
    ----------
    dir_path, prefix
        As in ``model.load``.
    with_adata
        Whether to read the AnnData or MuData that was saved with it, too.
    check
        What refuses metadata, before tensors are read and after.

    Raises
    ------
    ValueError
        There is no model, or what is there is damaged, was changed, or refers to files elsewhere.
    """
    path = model_file(dir_path, prefix)
    for left in reversed(range(TRIES)):
        document = _read_document(path, prefix)
        try:
            return _read(path, document, with_adata=with_adata, check=check)
        except ValueError:
            if left == 0 or path.read_bytes() == document.text:
                raise
    raise AssertionError


def read_metadata(dir_path: str | os.PathLike, prefix: str | None = None) -> dict[str, Any]:
    """The metadata alone."""
    path = model_file(dir_path, prefix)
    document = _read_document(path, prefix)
    check_metadata(path, document.model)
    return document.model


def _read(path: Path, document: Document, *, with_adata: bool, check: Check) -> SavedModel:
    check(path, document.model, None)
    file = _verified(path.parent, document.files["tensors"], _REMEDY)
    with _damage(file, _REMEDY):
        tensors = load_file(file)
    for name, tensor in tensors.items():
        if name not in document.model.get("not_finite", ()) and not torch.isfinite(tensor).all():
            msg = f"{str(file)!r} is damaged: {name!r} has values that are not finite. Save the model again."
            raise ValueError(msg)
    check(path, document.model, tensors)
    entry = document.files.get("adata") if with_adata else None
    return SavedModel(document.model, tensors, path, None if entry is None else _read_adata(path.parent, entry))


def _read_document(path: Path, prefix: str | None) -> Document:
    if not path.is_file():
        raise ValueError(_why_not_a_model(path))
    _refuse_link(path)
    try:
        document = Document.of(path, prefix)
    except ValueError as error:
        msg = f"{str(path)!r} is damaged: it is not a complete description of a model. Save the model again."
        raise ValueError(msg) from error
    if document.version != SCHEMA_VERSION:
        msg = (
            f"{str(path)!r} has format version {document.version}; this version of scpln reads version {SCHEMA_VERSION}. "
            "Load it with the version of scpln that saved it, or upgrade: `pip install --upgrade scpln`."
        )
        raise ValueError(msg)
    if not document.intact:
        msg = f"{str(path)!r} was changed after it was saved: its digest does not match. Save the model again."
        raise ValueError(msg)
    return document


def _read_adata(directory: Path, entry: Entry) -> Data:
    """The AnnData or MuData saved with a model."""
    remedy = "If it was changed on purpose, read it yourself and pass it as load(..., adata=...)."
    path = _verified(directory, entry, remedy)
    with _damage(path, remedy):
        elsewhere = _storage_elsewhere(path)
    if elsewhere is not None:
        msg = f"{str(path)!r} has {elsewhere!r} in another file, which is not read. {remedy}"
        raise ValueError(msg)
    with _damage(path, remedy):
        if path.suffix != MDATA[1]:
            return read_h5ad(path)
        with set_options(pull_on_update=False):  # or columns of the modalities are copied into mdata.obs
            return read_h5mu(path)


def _storage_elsewhere(path: Path) -> str | None:
    """Name of something in an HDF5 file that is stored in another file; None if there is nothing."""
    with h5py.File(path, "r") as file:
        found, seen = [("", file["/"])], set()
        while found:
            name, group = found.pop()
            for key in group:
                kind = group.id.links.get_info(key.encode()).type
                inner = f"{name}/{key}"
                if kind == h5py.h5l.TYPE_SOFT:  # what it leads to within this file is found elsewhere in it
                    continue
                if kind != h5py.h5l.TYPE_HARD:
                    return inner
                each = group[key]
                if isinstance(each, h5py.Dataset) and (each.external or each.is_virtual):
                    return inner
                address = h5py.h5o.get_info(each.id).addr
                if isinstance(each, h5py.Group) and address not in seen:
                    seen.add(address)
                    found.append((inner, each))
    return None


def _verified(directory: Path, entry: Entry, remedy: str) -> Path:
    """Path of a file that is there and has the digest it was saved with."""
    path = directory / entry["name"]
    _refuse_link(path)
    try:
        digest = digest_of_file(path)
    except FileNotFoundError as error:
        msg = f"{str(path)!r} is missing from the saved model. {remedy}"
        raise ValueError(msg) from error
    if digest != entry["sha256"]:
        msg = f"{str(path)!r} is truncated or was changed after it was saved: its digest does not match. {remedy}"
        raise ValueError(msg)
    return path


def _refuse_link(path: Path) -> None:
    """Refuse a file that is somewhere else, but in the cache of the Hugging Face Hub, which is made of links."""
    if not path.is_symlink():
        return
    home, target = path.parent.resolve(), path.resolve()
    caches = [folder.parent / "blobs" for folder in home.parents if folder.name == "snapshots"]
    if target.parent not in caches:
        msg = f"{str(path)!r} is a link to {str(target)!r}, out of the saved model. Put the file itself in its place."
        raise ValueError(msg)


@contextmanager
def _damage(path: Path, remedy: str) -> Iterator[None]:
    """Say of any error within that a file is damaged: nothing else is at work there."""
    try:
        yield
    except Exception as error:
        msg = f"{str(path)!r} is damaged: {type(error).__name__}: {error}. {remedy}"
        raise ValueError(msg) from error


def _why_not_a_model(path: Path) -> str:
    directory = path.parent
    if not directory.is_dir():
        return f"There is no directory {str(directory)!r} to load a model from."
    if (directory / path.name.replace(DESCRIPTION, "model.pt")).exists():
        return (
            f"{str(directory)!r} holds a model.pt of scvi-tools and no {path.name}. That is a pickle, which can run "
            "any code when it is loaded: scpln does not. Load it with the scvi-tools class that saved it."
        )
    found = sorted(file.name for file in directory.glob(f"*{DESCRIPTION}"))
    hint = f" It has {found}: pass the part before 'model.json' as prefix=." if found else ""
    return f"{str(directory)!r} has no {path.name}, so it is not a saved scpln model.{hint}"
