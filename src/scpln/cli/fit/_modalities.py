"""Several modalities of a MuData: ``scpln fit cells.h5mu --modality rna=counts --likelihood prot=nb``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln._catalogue import MODELS
from scpln.cli._checks import require
from scpln.cli._errors import CommandError
from scpln.cli.formats import holds_mudata

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData
    from mudata import MuData

    from scpln._catalogue import Entry

OF_ONE_ANNDATA = ("layer", "size_factor_key", "offset_key", "mask_key", "labels_key")
"""Options whose place is ``--modality`` where there are several, if it has one."""


def is_mudata(args: argparse.Namespace) -> bool:
    """Whether the input holds several modalities: by its name, or as a .zarr says of itself."""
    return holds_mudata(Path(args.input))


def named_likelihoods(args: argparse.Namespace) -> list[str | None]:
    """Likelihoods that were given, without the modalities that they are for."""
    given = args.likelihood if isinstance(args.likelihood, list) else [args.likelihood]
    return [None if each is None else each.rpartition("=")[2] for each in given]


def check_modalities(args: argparse.Namespace, entry: Entry) -> None:
    """Refuse a MuData where the model takes none, and what is not for such data as the input."""
    if not is_mudata(args):
        by_modality = isinstance(args.likelihood, list) and "--likelihood MODALITY=NAME"
        if option := by_modality or (args.modality and "--modality"):
            msg = f"{option} is for several modalities together, and {args.input} is no .h5mu; leave it out"
            raise CommandError(msg)
        return
    if not entry.takes_mudata:
        able = [f"--model {key}" for key, each in MODELS.items() if each.takes_mudata]
        msg = (
            f"--model {args.model} does not take a MuData such as {args.input}: fit {' or '.join(able)}, or write one of its "
            "modalities as .h5ad"
        )
        raise CommandError(msg)
    for name in OF_ONE_ANNDATA:
        if getattr(args, name, None) is not None:
            msg = (
                f"--{name.replace('_', '-')} is for an .h5ad; of a modality of {args.input}, layer and size factors are given "
                "by --modality NAME=LAYER:OBS"
            )
            raise CommandError(msg)


def modalities(args: argparse.Namespace, mdata: AnnData | MuData) -> dict[str, dict[str, str | None]]:
    """What to read of each modality: that of ``--modality``, or else the ``X`` of all."""
    return dict(map(parse_modality, args.modality or list(mdata.mod)))


def parse_modality(text: str) -> tuple[str, dict[str, str | None]]:
    """Name, layer and size factors of a modality.

    Examples
    --------
    >>> parse_modality("rna=counts:n_counts")
    ('rna', {'layer': 'counts', 'size_factor_key': 'n_counts'})
    >>> parse_modality("prot")
    ('prot', {'layer': None, 'size_factor_key': None})
    """
    name, _, rest = text.partition("=")
    layer, _, size_factor = rest.partition(":")
    return name, {"layer": layer or None, "size_factor_key": size_factor or None}


def joint_likelihood(args: argparse.Namespace, mdata: AnnData | MuData) -> str | dict[str, str]:
    """One likelihood for all modalities, or that of each; those that were not named have the one given without a name."""
    if isinstance(args.likelihood, str):
        return args.likelihood
    named = dict(each.split("=", 1) for each in args.likelihood if "=" in each)
    others = next((each for each in args.likelihood if "=" not in each), MODELS[args.model].likelihoods[0])
    return {**dict.fromkeys(modalities(args, mdata), others), **named}


def check_names(mdata: Any, args: argparse.Namespace) -> None:
    """Modalities, layers and size factors must be in the file."""
    for name, where in modalities(args, mdata).items():
        require("--modality", name, mdata.mod, "the modalities")
        require(f"--modality {name}=", where["layer"], mdata.mod[name].layers, f"layers of {name}")
        require(f"--modality {name}=…:", where["size_factor_key"], mdata.mod[name].obs, f"obs of {name}")
    for each in args.likelihood if isinstance(args.likelihood, list) else ():
        if "=" in each:
            require("--likelihood", each.partition("=")[0], modalities(args, mdata), "the modalities that are fitted")
