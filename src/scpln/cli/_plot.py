"""``scpln plot``: the figures of `scpln.pl`, drawn from an annotated file."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln._catalogue import MODELS, in_words
from scpln.cli.fit import positive_integer

from ._embedding import FIGURE_SUFFIXES, umap
from ._errors import EXIT_CODES, CommandError, ExitCode
from ._files import check_output, read_h5ad, whole_file
from ._messages import tell
from ._results import result_key

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = {
    "umap": "UMAP of the latent states, in colours",
    "history": "how training went",
    "latent": "cells in two dimensions of the latent space, in colours",
    "loadings": "genes with the largest loadings of each component",
    "correlation_circle": "correlation of genes with two components",
    "variance_explained": "share of the latent variance of each component",
    "gene_correlation": "correlation between genes that the model has found",
    "network": "network of genes of a model with a penalty",
    "tree": "tree of the counts, with sizes of its nodes",
    "cluster_probabilities": "probabilities of the clusters",
    "mixture_components": "components of the mixture in latent space",
    "code_usage": "how evenly codes are used",
    "code_labels": "codes of the cells of each group",
    "posterior_diagnostics": "how close each cell's posterior is to the exact one",
    "posterior_predictive": "whether the model makes counts like those that were observed; the file must have been\n"
    "annotated by scpln.tl.posterior_predictive",
}
"""Functions of `scpln.pl`, written here too since importing it takes a while, and the UMAP of ``scpln fit --figure``."""

ARGUMENTS = ("color", "components", "genes", "n_genes", "groupby", "basis")
"""Options that become arguments of the figures that have them."""

EPILOG = """\
kinds:
{kinds}

examples:
  scpln plot annotated.h5ad --kind history --out history.png
  scpln plot annotated.h5ad --kind umap --color bulk_labels --color CD3D --out umap.pdf
  scpln plot annotated.h5ad --kind loadings --n-genes 8 --out loadings.svg

"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    kinds = "\n".join(
        f"  {name:<22} {what}{_only(name)}".replace("\n", "\n" + " " * 25) for name, what in KINDS.items()
    )
    parser = commands.add_parser(
        "plot",
        usage="scpln plot ANNOTATED.h5ad --kind KIND --out FIGURE [options]",
        help="draw a figure of a fit",
        description="Draw a figure from what `scpln fit` or model.annotate() wrote; the model is not needed.",
        epilog=EPILOG.format(kinds=kinds) + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="ANNOTATED.h5ad", help="what `scpln fit` wrote")
    parser.add_argument(
        "--kind", choices=KINDS, required=True, metavar="KIND", help="what to draw: see the kinds below"
    )
    parser.add_argument(
        "--key", metavar="KEY", help="name of results (default: those in the file, if there are no others)"
    )
    parser.add_argument("--color", metavar="NAME", action="append", help="obs column or gene; may be repeated")
    parser.add_argument(
        "--components",
        type=positive_integer,
        nargs="+",
        metavar="N",
        help="latent components to show, the first being 1",
    )
    parser.add_argument("--genes", nargs="+", metavar="GENE", help="genes to show")
    parser.add_argument("--n-genes", type=positive_integer, metavar="N", help="how many genes to show")
    parser.add_argument("--groupby", metavar="OBS", help="obs column to group cells by")
    parser.add_argument("--basis", metavar="NAME", help="embedding in obsm to show cells in, such as umap")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FIGURE", help=f"file to write: {', '.join(FIGURE_SUFFIXES)}"
    )
    parser.add_argument("--force", "--overwrite", action="store_true", help="replace the file if it exists")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Draw a figure and say where it is."""
    check_output(args.out, force=args.force, suffixes=FIGURE_SUFFIXES)
    adata = read_h5ad(args.input)
    key = result_key(adata, args.input, args.key)
    import matplotlib as mpl

    mpl.use("Agg")  # pipelines have no screen
    from scpln import pl

    draw = umap if args.kind == "umap" else getattr(pl, args.kind)
    arguments = _arguments(draw, args)
    with whole_file(args.out) as path:
        draw(adata, key=key, save=path, **arguments)
    if not args.quiet:
        tell(f"wrote {args.out}: {args.kind} of {key} in {args.input}", args.out)
    return ExitCode.SUCCESS


def _arguments(draw: Callable[..., Any], args: argparse.Namespace) -> dict[str, Any]:
    """Arguments that options become; one that the figure does not take is refused."""
    taken = inspect.signature(draw).parameters
    given = {name: value for name in ARGUMENTS if (value := getattr(args, name)) is not None}
    for name in given:
        if name not in taken:
            others = [_option(each) for each in ARGUMENTS if each in taken]
            msg = (
                f"{_option(name)} has no effect on --kind {args.kind}, which takes "
                f"{' and '.join(others) or 'no such options'}; leave it out"
            )
            raise CommandError(msg)
    if "color" in given and len(given["color"]) == 1:  # figures of one panel take one name, not a list
        given["color"] = given["color"][0]
    elif "color" in given and "Sequence" not in str(taken["color"].annotation):
        msg = f"--color was given {len(given['color'])} times, and --kind {args.kind} takes one; draw a figure for each"
        raise CommandError(msg)
    return given


def _only(kind: str) -> str:
    """The models that have a figure, in brackets, if not all do."""
    keys = [key for key, entry in MODELS.items() if kind in entry.figures]
    return f" ({in_words(keys)})" if keys else ""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
