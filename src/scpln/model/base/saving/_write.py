"""Write a model so that its directory holds the previous model or the new one, whole, and all else that it held."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from mudata import MuData
from safetensors.torch import save_file

from scpln.core import flush_directory, left_behind, sole_writer, write_beside
from scpln.data.storage import check_writable, write_data

from ._document import (
    ADATA,
    DESCRIPTION,
    MDATA,
    TENSORS,
    Document,
    Entry,
    Kind,
    digest_of_file,
    file_name,
    make_document,
    model_file,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import torch

    from scpln.data import Data

    Writers = dict[str, tuple[Kind, Callable[[Path], object]]]


def write_model(
    dir_path: str | os.PathLike,
    prefix: str | None,
    *,
    metadata: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    adata: Data | None = None,
    overwrite: bool = False,
    **write_kwargs: Any,
) -> Path:
    """Write a model directory so that at every moment it holds the previous model or the new one, whole."""
    directory = Path(dir_path)
    writers: Writers = {"tensors": (TENSORS, lambda file: save_file(tensors, file))}
    if adata is not None:
        kind = MDATA if isinstance(adata, MuData) else ADATA
        writers["adata"] = (kind, lambda file: write_data(file, adata, **write_kwargs))
    check_save(directory, prefix, overwrite=overwrite, adata=adata)
    if adata is not None:
        check_writable(adata, kind[1])
    json.dumps(metadata)  # fails before anything is written
    directory.mkdir(parents=True, exist_ok=True)
    with sole_writer(directory) as alone:
        # Once more: another process may have saved while this one waited.
        previous, own = _make_room(directory, prefix, overwrite=overwrite, adata=adata, alone=alone)
        _write(directory, prefix, metadata, writers, previous)
        for path in own:
            with suppress(PermissionError):  # of Windows, while somebody reads it; it stays listed as an earlier one
                path.unlink(missing_ok=True)
    return directory


def check_save(
    dir_path: str | os.PathLike, prefix: str | None = None, *, overwrite: bool = False, adata: Data | None = None
) -> None:
    """Refuse a place that a model cannot be saved in without loss of what is there.

    Parameters
    ----------
    dir_path, prefix
        As in ``model.save``.
    overwrite
        Whether a model that is there may be replaced.
    adata
        Annotated data that are to be saved with the model.

    Raises
    ------
    ValueError
        The directory is a file, holds a model that is not to be replaced, or holds other files that have the names of those
        that would be written; or `adata` is backed by a file that would be replaced.
    """
    directory = Path(dir_path)
    model_file(directory, prefix)
    if directory.exists() and not directory.is_dir():
        msg = f"{str(directory)!r} is a file; a model is saved as a directory. Choose another path."
        raise ValueError(msg)
    if directory.is_dir():
        with sole_writer(directory) as alone:
            _make_room(directory, prefix, overwrite=overwrite, adata=adata, alone=alone)


def _make_room(
    directory: Path, prefix: str | None, *, overwrite: bool, adata: Data | None, alone: bool
) -> tuple[Document | None, list[Path]]:
    """Clear what interrupted saves left; return what is there of a model, and which files go when it is replaced."""
    path = model_file(directory, prefix)
    previous = None
    if _is_there(path):
        if not overwrite:
            msg = (
                f"{str(path)!r} already exists. Pass overwrite=True to replace that model, or choose another directory."
            )
            raise ValueError(msg)
        previous = _document(path, prefix)
        if previous is None:
            msg = (
                f"{str(path)!r} is not a model that scpln has saved, or is damaged, and is not replaced. "
                "Move or remove it, or choose another directory."
            )
            raise ValueError(msg)
    if alone:
        _clear_interrupted(directory, prefix, previous)
    kinds = [TENSORS] if adata is None else [TENSORS, ADATA, MDATA]
    own = [] if previous is None else _own_files(directory, previous, kinds)
    needed = [TENSORS] if adata is None else [TENSORS, MDATA if isinstance(adata, MuData) else ADATA]
    for name in (file_name(prefix, kind) for kind in needed):
        if _is_there(directory / name) and directory / name not in own:
            msg = (
                f"{str(directory / name)!r} is not of a saved model, or was changed since, and is not replaced: "
                "the model's own file would have this name. Move or rename it, or choose another directory."
            )
            raise ValueError(msg)
    for file in own:
        if any(_is_same(file, backing) for backing in _backing_files(adata)):
            msg = (
                f"The data are backed by {str(file)!r}, which saving them here would replace. Choose another directory, or "
                "read them into memory first: `adata = adata.to_memory()`."
            )
            raise ValueError(msg)
    return previous, own


def _write(
    directory: Path, prefix: str | None, metadata: dict[str, Any], writers: Writers, previous: Document | None
) -> None:
    """Write all files beside, then give them their names, that of ``model.json`` last."""
    token = "" if previous is None else token_hex(8)
    waiting: list[Path] = []
    named: list[Path] = []
    files: dict[str, Any] = {}
    try:
        for key, (kind, write) in writers.items():
            name = file_name(prefix, kind, token)
            waiting.append(write_beside(directory / name, write))
            files[key] = {"name": name, "sha256": digest_of_file(waiting[-1])}
        if previous is not None:
            files["earlier"] = [entry for _, entry in previous.entries() if _is_there(directory / entry["name"])]
        # If the process is killed from here on, this tells the next save which files are of this one.
        document = make_document(files, metadata)
        path = model_file(directory, prefix)
        waiting.append(write_beside(path, lambda file: file.write_text(document, encoding="utf-8")))
        for key, temporary in zip(writers, waiting, strict=False):
            final = directory / files[key]["name"]
            final.touch(exist_ok=False)  # where there are no locks, somebody may have taken the name meanwhile
            named.append(final)
            temporary.replace(final)
        flush_directory(directory)
        waiting[-1].replace(path)
        flush_directory(directory)
    except BaseException:
        if len(waiting) <= len(writers) or waiting[-1].exists():  # or else the new model is in place
            for file in (*waiting, *named):
                file.unlink(missing_ok=True)
        raise


def _clear_interrupted(directory: Path, prefix: str | None, current: Document | None) -> None:
    """Remove what saves that were killed left: their temporaries, and files that got their names before ``model.json``."""
    kept = set() if current is None else {entry["name"] for _, entry in current.entries()}
    start = re.escape(prefix or "")
    for path in left_behind(directory, f"{start}{re.escape(DESCRIPTION)}"):
        interrupted = _document(path, prefix)
        for key, entry in () if interrupted is None else interrupted.entries():
            file = directory / entry["name"]
            # An empty one had its name taken, and nothing more.
            if key != "earlier" and entry["name"] not in kept and (_is_as_saved(file, entry) or _is_empty(file)):
                file.unlink()
        path.unlink()
    kinds = "|".join(rf"{start}{stem}(\.[0-9a-f]+)?{re.escape(end)}" for stem, end in (TENSORS, ADATA, MDATA))
    for path in left_behind(directory, kinds):
        path.unlink()


def _own_files(directory: Path, document: Document, kinds: list[Kind]) -> list[Path]:
    """Files of a saved model. What has a name of theirs but other content is not theirs, the tensors themselves excepted.

    Nothing but this model can be in the tensors' place, and a damaged one has to be replaceable; data of a user can.
    """
    ends = tuple(end for _, end in kinds)
    found = []
    for key, entry in document.entries():
        path = directory / entry["name"]
        tensors = key == "tensors" and path.is_file() and not path.is_symlink()
        if path.suffix in ends and (tensors or _is_as_saved(path, entry)):
            found.append(path)
    return found


def _document(path: Path, prefix: str | None) -> Document | None:
    try:
        return None if path.is_symlink() else Document.of(path, prefix)
    except (ValueError, OSError):
        return None


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


def _is_as_saved(path: Path, entry: Entry) -> bool:
    with suppress(FileNotFoundError):  # where there are no locks, another process may remove it meanwhile
        return path.is_file() and not path.is_symlink() and digest_of_file(path) == entry["sha256"]
    return False


def _is_same(path: Path, other: Path) -> bool:
    with suppress(FileNotFoundError):  # as above
        return path.samefile(other)
    return False


def _backing_files(adata: Data | None) -> list[Path]:
    """Files that data are read from as they are used."""
    parts = [] if adata is None else [adata, *(adata.mod.values() if isinstance(adata, MuData) else ())]
    names = [part.filename for part in parts if part.isbacked]
    return [Path(name) for name in names if name is not None]
