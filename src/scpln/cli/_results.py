"""Results of models that an annotated file holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def results_in(adata: AnnData) -> list[str]:
    """Names of all results that a model has written, with or without latent states."""
    return [key for key, entry in adata.uns.items() if isinstance(entry, Mapping) and "model" in entry]


def result_key(adata: AnnData, path: Path, key: str | None) -> str:
    """Name of the results to look at: the one that was given, or the only one that there is."""
    found = results_in(adata)
    listed = ", ".join(found)
    if key is None and len(found) == 1:
        return found[0]
    if not found:
        msg = f"{path} holds no results of a model: run `scpln fit {shlex.quote(str(path))} --out annotated.h5ad` first, and pass its output"
    elif key is None:
        msg = f"{path} holds results of several fits: choose one with --key ({listed})"
    elif key in found:
        return key
    else:
        msg = f"{path} has no results named {key!r} (--key); there are: {listed}"
    raise CommandError(msg)
