"""The files of ``scpln fit``, ``predict`` and ``map``: refused before the fit if they cannot be written, and a fit kept if they cannot after it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln.cli._embedding import FIGURE_SUFFIXES
from scpln.cli._errors import CommandError, OutputError
from scpln.cli._files import check_output
from scpln.cli._summary import check_summary
from scpln.cli.formats import require_room, write

from ._modalities import is_mudata

if TYPE_CHECKING:
    import argparse

    from scpln.data import Data
    from scpln.model import ScplnModel


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse outputs that exist, or for which there is no place."""
    check_output(args.out, force=args.force, suffixes=(".h5mu" if is_mudata(args) else ".h5ad", ".zarr"))
    if args.figure is not None:
        check_output(args.figure, force=args.force, suffixes=FIGURE_SUFFIXES)
    save_model = getattr(args, "save_model", None)
    if save_model is not None:
        check_output(save_model, force=args.force, directory=True)
    if args.write_config is not None:
        check_output(args.write_config, force=args.force, suffixes=(".yaml", ".yml"))
    check_summary(args.summary, force=args.force)
    if save_model is not None:
        _check_model_place(save_model, force=args.force)


def _check_model_place(path: Path, *, force: bool) -> None:
    """Refuse a directory in which the model would take the place of something else."""
    from scpln.model.base import check_save

    try:
        check_save(path, overwrite=force)
    except ValueError as error:
        raise OutputError(str(error)) from error


def check_writable(adata: Data, args: argparse.Namespace) -> None:
    """Refuse data that can be read and not be written, and an output without room."""
    from scpln.data import storage

    require_room(args.out, args.input)
    try:
        storage.check_writable(adata, args.out.suffix)
    except ValueError as error:
        msg = f"{args.input} cannot be written again: {error}"
        raise OutputError(msg) from error


def write_annotated(adata: Data, args: argparse.Namespace, layout: dict[str, Any], model: ScplnModel, key: str) -> None:
    """Write the annotated file, or at least what was fitted.

    Parameters
    ----------
    adata
        The annotated data.
    args
        Options of the command.
    layout
        Compression of the input.
    model
        What was fitted.
    key
        Name of the results.
    """
    try:
        write(args.out, adata, layout)
    except Exception as error:
        reason = str(error) if isinstance(error, CommandError) else f"cannot write {args.out}: {error}"
        kept = keep(adata, args, model, key)
        msg = f"{reason}; what was fitted is kept in {kept}" if kept else f"{reason}; nor could what was fitted be kept"
        raise OutputError(msg) from error


def keep(adata: Data, args: argparse.Namespace, model: ScplnModel, key: str) -> str:
    """Write results and model beside the output, or where temporary files go; return the folder and what it holds."""
    for parent in (args.out.absolute().parent, Path(tempfile.gettempdir())):
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{args.out.stem}-kept-", dir=parent))
        except OSError:
            continue
        kept = []
        for name, write_it in (
            ("results.h5ad", lambda path: write(path, _results(adata, key))),
            ("model", lambda path: model.save(path)),
        ):
            try:
                write_it(folder / name)
                kept.append(name)
            except Exception:  # noqa: BLE001 (what can be kept is, and the reason was given already)
                shutil.rmtree(folder / name, ignore_errors=True)
        if kept:
            return f"{folder} ({' and '.join(kept)})"
        shutil.rmtree(folder, ignore_errors=True)
    return ""


def _results(adata: Data, key: str) -> Data:
    """What a key owns, with nothing else."""
    import anndata as ad
    import pandas as pd

    owned = {*map(str, adata.uns[key]["written"])}
    obs, var = (
        pd.DataFrame(
            {name: frame[name].array for name in frame if f"{slot}[{name!r}]" in owned}, index=[*map(str, names)]
        )
        for slot, frame, names in (("obs", adata.obs, adata.obs_names), ("var", adata.var, adata.var_names))
    )
    slots = {
        slot: {name: each for name, each in getattr(adata, slot).items() if f"{slot}[{name!r}]" in owned}
        for slot in ("obsm", "varm")
    }
    return ad.AnnData(obs=obs, var=var, uns={key: adata.uns[key]}, **slots)
