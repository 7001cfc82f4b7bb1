"""A directory that is ready for the Hub: the saved model, its card, and scvi-tools' metadata."""

from __future__ import annotations

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln import model as models
from scpln._catalogue import of_class
from scpln.core import replace_file
from scpln.model.base import model_file, read_metadata

from ._card import LIBRARY, Card

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from mudata import MuData

#: Names that scvi-tools and the Hub give these files.
CARD, METADATA = "README.md", "_scvi_required_metadata.json"


def write(
    model: models.ScplnModel,
    local_dir: str | os.PathLike,
    *,
    license: str,
    save_anndata: bool = False,
    overwrite: bool = False,
    **about: Any,
) -> None:
    """Write a directory with a model, ready for `push` and for ``scvi.hub.HubModel``.

    Parameters
    ----------
    model
        Trained model.
    local_dir
        Directory, made if necessary.
    license
        Identifier of the licence, such as ``"mit"`` or ``"cc-by-4.0"``.
    save_anndata
        Whether to share the cells with it, as ``adata.h5ad`` or ``mdata.h5mu``. Without, whoever loads it brings their own.
    overwrite
        Whether to replace a model, and a card, that are there. A README that is no card of a model of scpln stays.
    **about
        More for the card: ``description`` and ``references`` (markdown), ``modalities``, ``tissues``, ``annotated``,
        ``training_data_url``, ``training_code_url``.
    """
    directory, card = Path(local_dir), Card(license=license, **about)
    for name, own in ((CARD, LIBRARY), (METADATA, "model_cls_name")):
        _check_place(directory / name, own, overwrite=overwrite)
    model.save(directory, overwrite=overwrite, save_anndata=save_anndata)
    saved = read_metadata(directory)
    entry = of_class(saved["class"])
    metadata = {
        "scvi_version": saved["registry"]["scvi_version"],
        "anndata_version": version("anndata"),
        "model_cls_name": saved["class"],
        "training_data_url": card.training_data_url,
        "model_parent_module": models.__name__ if entry is None else entry.class_path.rpartition(".")[0],
    }
    for name, text in ((METADATA, json.dumps(metadata, indent=4)), (CARD, card.write(saved))):
        replace_file(directory / name, partial(Path.write_text, data=text, encoding="utf-8"))


def _check_place(path: Path, own: str, *, overwrite: bool) -> None:
    """Refuse to replace a file unasked, or one that has not what is in those that `write` makes."""
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        msg = f"{str(path)!r} already exists. Pass overwrite=True to replace it, or choose another directory."
        raise ValueError(msg)
    if path.is_symlink() or not path.is_file() or own not in path.read_text(encoding="utf-8", errors="replace"):
        msg = (
            f"{str(path)!r} was not written by scpln.hub, and is not replaced. Move or rename it, or choose another "
            "directory."
        )
        raise ValueError(msg)


def load(
    local_dir: str | os.PathLike, adata: AnnData | MuData | bool | None = None, **options: Any
) -> models.ScplnModel:
    """Load a model of any class from the directory that it was saved, written or downloaded in.

    Parameters
    ----------
    local_dir
        Directory.
    adata
        Annotated data with the model's genes; by default those in the directory, False for none.
    **options
        Further arguments of the model's ``load``.
    """
    name = read_metadata(local_dir, options.get("prefix"))["class"]
    entry = of_class(name)
    if entry is None:
        path = model_file(local_dir, options.get("prefix"))
        msg = f"{str(path)!r} holds a {name!r}, which this version of scpln does not have. Upgrade scpln."
        raise ValueError(msg)
    loaded: models.ScplnModel = entry.load_class().load(local_dir, adata, **options)
    return loaded
