"""Checkpoints of a training: whole or not there, without code, and of the same training or refused."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scpln.core import replace_file

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

    from scpln.core import CountData

logger = logging.getLogger("scpln")

#: Name of the file in the directory of checkpoints.
CHECKPOINT = "last.ckpt"


def write_checkpoint(path: Path, write: Callable[[Path], object]) -> None:
    """Have a checkpoint written in place of the last one, which stays until the new one is whole.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     path = Path(directory) / "new" / CHECKPOINT
    ...     write_checkpoint(path, lambda temporary: torch.save({"epoch": 3}, temporary))
    ...     read_checkpoint(path)
    {'epoch': 3}
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        replace_file(path, write)
    except RuntimeError as error:  # of torch, whatever the file system said
        msg = f"The checkpoint {str(path)!r} could not be written: is there room for it?"
        raise OSError(msg) from error


def read_checkpoint(path: Path, needed: Collection[str] = ()) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU. A file that holds more than tensors, numbers and texts is refused.

    Parameters
    ----------
    path
        File.
    needed
        Names of what must be in it.

    Raises
    ------
    ValueError
        The file is truncated, empty, or no checkpoint.

    Examples
    --------
    >>> read_checkpoint(Path("/dev/null"))
    Traceback (most recent call last):
    ValueError: '/dev/null' is a damaged checkpoint: it is truncated, or holds something else than the tensors, ...
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of bytes that are not its own
        raise ValueError(_damaged(path)) from error
    if not isinstance(content, dict) or not set(needed) <= set(content):
        raise ValueError(_damaged(path))
    return content


def _damaged(path: Path) -> str:
    return (
        f"{str(path)!r} is a damaged checkpoint: it is truncated, or holds something else than the tensors, numbers and "
        "texts of a training. Put a copy in its place, or remove it: with resume=True, training then starts from the "
        "beginning."
    )


def check_checkpoint(directory: str | os.PathLike | None, *, resume: bool) -> None:
    """Refuse what cannot be resumed, or would be overwritten, before anything is computed."""
    if directory is None and resume:
        msg = "resume=True goes on from a checkpoint. Say where it is: checkpoint_dir=..."
        raise ValueError(msg)
    if directory is not None and not resume and (path := Path(directory) / CHECKPOINT).exists():
        msg = (
            f"{str(path)!r} is a checkpoint of an earlier training. Go on with it by resume=True, remove it, "
            "or choose another checkpoint_dir."
        )
        raise FileExistsError(msg)


def find_checkpoint(path: Path, *, resume: bool) -> Path | None:
    """The file to go on from, or None if there is none yet."""
    if path.exists():
        return path
    if resume:
        logger.info("There is no checkpoint in %s yet: training starts from the beginning.", path.parent)
    return None


def check_same_training(path: Path, saved: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose settings are not those of this training.

    Examples
    --------
    >>> check_same_training(Path("last.ckpt"), {"seed": 0}, {"seed": 1})
    Traceback (most recent call last):
    ValueError: 'last.ckpt' is a checkpoint of another training: it has seed=0, not 1. Pass the same arguments ...
    """
    differing = [
        f"{name}={saved.get(name)!r}, not {settings.get(name)!r}"
        for name in {**saved, **settings}
        if saved.get(name) != settings.get(name)
    ]
    if differing:
        msg = (
            f"{str(path)!r} is a checkpoint of another training: it has {'; '.join(differing)}. "
            "Pass the same arguments and data, or another checkpoint_dir."
        )
        raise ValueError(msg)


def describe_cells(data: CountData, labels: NDArray[np.int64] | None) -> dict[str, Any]:
    """Numbers of cells and genes, and a digest of all else but the counts: tells whether these are the same cells."""
    digest = hashlib.sha256()
    entries = () if data.entries is None else data.entries.arrays()
    for array in (data.offsets, data.design, data.batches, labels, *entries):
        if array is not None:
            digest.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return {"n_cells": data.n_cells, "n_genes": data.n_genes, "cells": digest.hexdigest()}
