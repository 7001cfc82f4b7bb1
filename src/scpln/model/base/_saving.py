"""A trained model on disk: tensors as safetensors, everything else as JSON, nothing pickled.

``model.json`` names the files that belong to it and their SHA-256 digests, and is replaced last and in one step. A save
that is killed leaves the previous ``model.json`` in place, and with it the previous model. While an old model is being
replaced, the new files need other names (``model.2.safetensors``); a fresh save has the plain ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata.io import read_h5ad, write_h5ad
from mudata import MuData, read_h5mu, set_options, write_h5mu
from safetensors.torch import load_file, save_file

from scpln.core import replace_file

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import torch

    from scpln.data import Data

SCHEMA_VERSION = 1
_TENSORS = ("model", ".safetensors")
_ADATA, _MDATA = ("adata", ".h5ad"), ("mdata", ".h5mu")


@dataclass(frozen=True)
class SavedModel:
    """What a directory holds: metadata, tensors, and where the AnnData or MuData is."""

    metadata: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    directory: Path
    adata_entry: dict[str, str] | None

    def read_adata(self) -> Data | None:
        """The AnnData or MuData saved with the model, or None if there is none."""
        if self.adata_entry is None:
            return None
        remedy = "If it was changed on purpose, read it yourself and pass it as load(..., adata=...)."
        path = _verified(self.directory, self.adata_entry, remedy)
        if path.suffix != _MDATA[1]:
            return read_h5ad(path)
        with set_options(pull_on_update=False):  # or columns of the modalities are copied into mdata.obs
            return read_h5mu(path)


def model_file(dir_path: str | os.PathLike, prefix: str | None) -> Path:
    """Path of the JSON file that makes a directory a saved model."""
    return Path(dir_path) / f"{prefix or ''}model.json"


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
    directory, path = Path(dir_path), model_file(dir_path, prefix)
    if directory.exists() and not directory.is_dir():
        msg = f"{str(directory)!r} is a file; a model is saved as a directory. Choose another path."
        raise ValueError(msg)
    if path.exists() and not overwrite:
        msg = f"{str(path)!r} already exists. Pass overwrite=True to replace that model, or choose another directory."
        raise ValueError(msg)
    json.dumps(metadata)  # fails before anything is written
    directory.mkdir(parents=True, exist_ok=True)
    files = {"tensors": _write(directory, prefix, _TENSORS, lambda file: save_file(tensors, file))}
    if isinstance(adata, MuData):
        files["adata"] = _write(directory, prefix, _MDATA, lambda file: write_h5mu(file, adata, **write_kwargs))
    elif adata is not None:
        files["adata"] = _write(directory, prefix, _ADATA, lambda file: write_h5ad(file, adata, **write_kwargs))
    content = {"files": files, "model": metadata}
    document = {"schema_version": SCHEMA_VERSION, "sha256": _digest_of(content), **content}
    replace_file(path, lambda file: file.write_text(json.dumps(document, indent=1), encoding="utf-8"))
    _remove_old(directory, prefix, [_TENSORS] if adata is None else [_TENSORS, _ADATA, _MDATA], files)
    return directory


def read_model(dir_path: str | os.PathLike, prefix: str | None) -> SavedModel:
    """Read a model directory, checking that it is whole and unchanged."""
    path = model_file(dir_path, prefix)
    if not path.is_file():
        raise ValueError(_why_not_a_model(path))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, digest = document["schema_version"], document["sha256"]
        content = {key: document[key] for key in ("files", "model")}
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{str(path)!r} is damaged: it is not a complete description of a model. Save the model again."
        raise ValueError(msg) from error
    if version != SCHEMA_VERSION:
        msg = (
            f"{str(path)!r} has format version {version}; this version of scpln reads version {SCHEMA_VERSION}. "
            "Load it with the version of scpln that saved it, or upgrade: `pip install --upgrade scpln`."
        )
        raise ValueError(msg)
    if digest != _digest_of(content):
        msg = f"{str(path)!r} was changed after it was saved: its digest does not match. Save the model again."
        raise ValueError(msg)
    tensors = load_file(_verified(path.parent, content["files"]["tensors"], "Save the model again."))
    return SavedModel(content["model"], tensors, path.parent, content["files"].get("adata"))


def _write(
    directory: Path, prefix: str | None, kind: tuple[str, str], write: Callable[[Path], object]
) -> dict[str, str]:
    """Write a file under a name that no saved model uses; return the name and its digest."""
    stem, suffix = f"{prefix or ''}{kind[0]}", kind[1]
    names = chain([f"{stem}{suffix}"], (f"{stem}.{number}{suffix}" for number in count(2)))
    name = next(name for name in names if not (directory / name).exists())
    replace_file(directory / name, write)
    return {"name": name, "sha256": _digest(directory / name)}


def _remove_old(directory: Path, prefix: str | None, kinds: list[tuple[str, str]], files: dict[str, Any]) -> None:
    """Remove what earlier saves, whole or interrupted, left of the kinds of file that were just written."""
    start = re.escape(prefix or "")
    whole = "|".join(rf"{start}{stem}(\.\d+)?{re.escape(suffix)}" for stem, suffix in kinds)
    ours = re.compile(rf"{whole}|\.({whole}|{start}model\.json)\.\d+\.tmp")
    keep = {entry["name"] for entry in files.values()}
    for path in directory.iterdir():
        if ours.fullmatch(path.name) and path.name not in keep:
            path.unlink()


def _verified(directory: Path, entry: dict[str, str], remedy: str) -> Path:
    """Path of a file that is there and has the digest it was saved with."""
    path = directory / entry["name"]
    if not path.is_file():
        msg = f"{str(path)!r} is missing from the saved model. {remedy}"
        raise ValueError(msg)
    if _digest(path) != entry["sha256"]:
        msg = f"{str(path)!r} is truncated or was changed after it was saved: its digest does not match. {remedy}"
        raise ValueError(msg)
    return path


def _why_not_a_model(path: Path) -> str:
    directory = path.parent
    if not directory.is_dir():
        return f"There is no directory {str(directory)!r} to load a model from."
    if (directory / path.name.replace("model.json", "model.pt")).exists():
        return (
            f"{str(directory)!r} holds a model.pt of scvi-tools and no {path.name}. That is a pickle, which can run "
            "any code when it is loaded: scpln does not. Load it with the scvi-tools class that saved it."
        )
    found = sorted(file.name for file in directory.glob("*model.json"))
    hint = f" It has {found}: pass the part before 'model.json' as prefix=." if found else ""
    return f"{str(directory)!r} has no {path.name}, so it is not a saved scpln model.{hint}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
