"""``scpln datasets``: real counts to try the commands on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._errors import ExitCode
from ._files import check_output
from ._messages import tell
from .formats import write

if TYPE_CHECKING:
    import argparse

NAMES = ("pbmc68k_reduced",)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    parser = commands.add_parser(
        "datasets",
        help="write a bundled data set as .h5ad",
        description="Write a bundled data set as .h5ad; nothing is downloaded. Counts are in layer 'counts'.",
    )
    parser.add_argument("name", choices=NAMES, help="pbmc68k_reduced: 700 blood cells, 765 genes, cell types")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.h5ad", help="where to write it")
    parser.add_argument("--force", "--overwrite", action="store_true", help="replace the file if it exists")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Write the data set and say what it is."""
    check_output(args.out, force=args.force, suffixes=(".h5ad", ".zarr"))
    from scpln import datasets

    adata = getattr(datasets, args.name)()
    write(args.out, adata)
    if not args.quiet:
        text = f"wrote {args.out}: {adata.n_obs:,} cells, {adata.n_vars:,} genes, counts in layers['counts']"
        tell(text, args.out)
    return ExitCode.SUCCESS
