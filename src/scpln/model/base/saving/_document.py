"""``model.json``: which files make up a saved model, under which names, with which content."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

SCHEMA_VERSION = 1
DESCRIPTION = "model.json"
#: Start and end of the names of files, by what ``model.json`` calls them.
TENSORS, ADATA, MDATA = ("model", ".safetensors"), ("adata", ".h5ad"), ("mdata", ".h5mu")
KINDS = {"tensors": (TENSORS,), "adata": (ADATA, MDATA), "earlier": (TENSORS, ADATA, MDATA)}

Kind = tuple[str, str]
Entry = dict[str, str]


@dataclass(frozen=True)
class Document:
    """Content of a ``model.json``, whose files have names that `write_model` gives.

    Attributes
    ----------
    files
        By what they are: name and digest of each. Under ``earlier`` a list of those that previous saves may have left.
    model
        What is said of the model.
    text
        The content as it was read.
    version, digest
        Of the format, and as the file has it.
    """

    files: dict[str, Any]
    model: dict[str, Any]
    text: bytes
    version: Any
    digest: Any

    @classmethod
    def of(cls, path: Path, prefix: str | None) -> Document:
        """Read and take apart; a ValueError without words if it is none."""
        text = path.read_bytes()
        try:
            content = json.loads(text)
            document = cls(content["files"], content["model"], text, content["schema_version"], content["sha256"])
            sound = isinstance(document.model, dict) and "tensors" in document.files
            for key, entry in document.entries():
                names = [f"{re.escape(prefix or '')}{stem}(\\.[0-9a-f]+)?{re.escape(end)}" for stem, end in KINDS[key]]
                sound &= re.fullmatch("|".join(names), entry["name"]) is not None and isinstance(entry["sha256"], str)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError from error
        if not sound:
            raise ValueError
        return document

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All files that it names, and what they are called."""
        for key, value in self.files.items():
            for entry in value if key == "earlier" else [value]:
                yield key, entry

    @property
    def intact(self) -> bool:
        """Whether it is as it was written."""
        return bool(self.digest == digest_of({"files": self.files, "model": self.model}))


def make_document(files: dict[str, Any], model: dict[str, Any]) -> str:
    """Text of a ``model.json``."""
    content = {"files": files, "model": model}
    return json.dumps({"schema_version": SCHEMA_VERSION, "sha256": digest_of(content), **content}, indent=1)


def model_file(dir_path: str | os.PathLike, prefix: str | None) -> Path:
    """Path of the JSON file that makes a directory a saved model."""
    name = f"{'' if prefix is None else prefix}{DESCRIPTION}"
    plain = isinstance(prefix, str | None) and "\0" not in name
    if not plain or Path(name).name != name or PureWindowsPath(name).name != name:
        msg = f"prefix={prefix!r}, but it must be the start of the names of files: text without slashes."
        raise ValueError(msg)
    return Path(dir_path) / name


def file_name(prefix: str | None, kind: Kind, token: str = "") -> str:
    """Name of a file of a saved model."""
    return f"{prefix or ''}{kind[0]}{'.' if token else ''}{token}{kind[1]}"


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
