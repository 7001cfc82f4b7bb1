"""``scpln fit``: counts in, annotated counts out."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln._catalogue import MODELS, RESULTS, in_words, keys_writing, options, results, results_of
from scpln.cli._checks import require
from scpln.cli._embedding import cluster_and_embed, default_colors, draw_umap, require_cells
from scpln.cli._errors import EXIT_CODES, CommandError, ExitCode
from scpln.cli._files import read_h5ad, read_h5mu
from scpln.cli._messages import add_message_options
from scpln.cli._summary import give_summary
from scpln.cli.formats import layout_of
from scpln.cli.wording import OptionsParser

from ._config import write_config
from ._modalities import check_names, is_mudata
from ._models import arguments, check_options, option_of
from ._options import add_options
from ._outputs import check_outputs, check_writable, keep, write_annotated
from ._places import keys_of_registration, places
from ._summary import as_text, summarize

if TYPE_CHECKING:
    from scpln.data import Data
    from scpln.model import ScplnModel

USAGE = "scpln fit IN.h5ad --out OUT.h5ad [options]"
CLUSTERS = 'obs["KEY_cluster"]'
EXAMPLES = """\
examples:
  scpln fit counts.h5ad --layer counts --out annotated.h5ad
  scpln fit counts.h5ad --layer counts --batch-key donor --size-factor-key total_counts \\
      --n-latent 20 --out annotated.h5ad --figure umap.png --save-model model/
  scpln fit counts.h5ad --layer counts --design "~ condition * age + donor" --out annotated.h5ad
  scpln fit counts.h5ad --layer counts --likelihood nb --posterior flow --out annotated.h5ad
  scpln fit counts.h5ad --model countvae --layer counts --n-hidden 256 --out annotated.h5ad
  scpln fit counts.h5ad --model countgmvae --layer counts --n-components 12 --out annotated.h5ad
  scpln fit cells.h5mu --modality rna=counts:n_counts --modality prot --likelihood prot=nb --out annotated.h5mu
  scpln fit proteins.h5ad --layer clr --likelihood gaussian --out annotated.h5ad
  scpln fit counts.h5ad --layer counts --out annotated.h5ad --summary summary.json --write-config run.yaml
  scpln fit --config run.yaml --seed 1 --out other.h5ad

"""

ADDITIONS = """\
OUT.h5ad is IN.h5ad with these additions (KEY is the model's name, or --key-added):
{results}
  obsm["X_KEY_umap"], obs["KEY_leiden"]   only with --figure
Of an .h5mu, what belongs to genes is in their modality. The file is written whole, or not at all.

"""

SUMMARY = """\
--summary FILE.json writes (null for what a model does not have):
  model, key, input      what was fitted to what
  n_cells, n_genes, n_latent, likelihood, seed, versions
  posterior              {"family", "flow", "amortized"}
  clusters               {"n_components", "n_effective", "sizes": {name: cells}}{mixtures}
  objective              {"name", "unit", "value", "higher_is_better"}: what training optimised
  bound                  mean over cells, in "bound_unit", conditional on "bound_conditions"
  reliability            {"gap": nats per cell below the log-likelihood, "unreliable": share of cells with Pareto k̂ > 0.7,
                         "n_cells": cells that were looked at}; reliability_text: the same in words
  converged, stop_reason, seconds
  outputs                {"annotated", "figure", "model", "config"}: paths
  added                  places in the annotated file

"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    parser = commands.add_parser(
        "fit",
        usage=USAGE,
        help="fit a model to the counts in an .h5ad file",
        description="Fit a model to raw counts in an .h5ad file (or to real values, with --likelihood gaussian), or to those of\n"
        "several modalities in an .h5mu file, and write the annotated file.",
        epilog=EXAMPLES + _additions() + _summary_help() + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="IN.h5ad",
        help="cells by genes, raw counts or real values: .h5ad, .zarr or 10x .h5; or several modalities: .h5mu or .zarr",
    )
    add_options(parser)
    parser.set_defaults(run=run)
    return parser


def options_parser() -> argparse.ArgumentParser:
    """The options alone, for what looks at them besides the command line."""
    parser = OptionsParser(prog="scpln fit", usage=USAGE, add_help=False)
    add_options(parser)
    add_message_options(parser)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Read, fit, write, and say what came out."""
    check_options(args)
    check_outputs(args)
    adata = read_h5mu(args.input) if is_mudata(args) else read_h5ad(args.input)
    key = args.key_added or args.model
    _check_names(adata, args, key)
    check_writable(adata, args)
    layout = layout_of(args.input)
    if args.write_config is not None:  # before the fit, so that it can be repeated whatever becomes of it
        write_config(args.write_config, args, options_parser())

    keys_before = places(adata)
    with redirect_stdout(sys.stderr):  # the progress bar's place: stdout is for the summary
        model, seconds = _fitted(adata, args, key)

    try:
        if args.save_model is not None:
            model.save(args.save_model, overwrite=args.force)
        if args.figure is not None:
            _draw(adata, args, key)
    finally:  # a fit is not lost to a figure that fails or to an impatient Ctrl-C
        for name in keys_of_registration(adata):
            del adata.uns[name]
        write_annotated(adata, args, layout, model, key)
    summary = summarize(model, adata, args, key, seconds, added=sorted(places(adata) - keys_before))
    give_summary(summary, as_text(summary), args.summary, quiet=args.quiet)
    return ExitCode.INTERRUPTED if "interrupted" in model.stop_reason.lower() else ExitCode.SUCCESS


def _check_names(adata: Data, args: argparse.Namespace, key: str) -> None:
    if is_mudata(args):
        check_names(adata, args)
        genes = []
    else:
        require("--layer", args.layer, adata.layers, "layers")
        for name, given in {"--offset-key": args.offset_key, "--mask-key": args.mask_key}.items():
            require(name, given, [*adata.layers, *adata.obsm], "layers or obsm")
        genes = list(adata.var_names)
    columns = {"--batch-key": [args.batch_key], "--size-factor-key": [args.size_factor_key]}
    for option in options().values():
        if option.kind == "column":
            columns[option_of(option.name)] = [getattr(args, option.name)]
    columns["--design"] = _columns_of_design(args)
    columns["--categorical-covariate"] = args.categorical_covariate or []
    columns["--continuous-covariate"] = args.continuous_covariate or []
    for name, wanted in columns.items():
        for column in wanted:
            require(name, column, adata.obs, "obs")
    where = "obs or the genes" if genes else "obs"
    for name in args.color or ():
        require("--color", name, [*adata.obs, *_columns(args, key), *genes], where)
    if args.figure is not None:
        require_cells(adata)


def _columns_of_design(args: argparse.Namespace) -> list[str]:
    """Columns of obs that the formula names."""
    from scpln.data import columns_in

    return [] if args.design is None else columns_in(args.design)


def _columns(args: argparse.Namespace, key: str) -> list[str]:
    """Columns of obs that there will be."""
    sure = [place for result in results_of(MODELS[args.model]) if result.always for place in result.places]
    names = [place.removeprefix('obs["KEY').removesuffix('"]') for place in sure if place.startswith("obs[")]
    clusters = ["_leiden"] if MODELS[args.model].has_latent else []
    return [f"{key}{name}" for name in (*clusters, *names)]


def _fitted(adata: Data, args: argparse.Namespace, key: str) -> tuple[ScplnModel, float]:
    """Return the trained model, and how long that took once everything was imported."""
    from scpln.tl._fit import fit, split

    model_class = MODELS[args.model].load_class()
    try:
        steps = split(model_class, adata, arguments(args, adata))
    except TypeError as error:  # an option of all models that this one does not take
        raise CommandError(str(error)) from error
    steps.training["progress"] = sys.stderr.isatty() and not args.quiet
    started = time.perf_counter()
    try:
        fitted = fit(model_class, adata, steps, key_added=key, diagnostics=args.diagnostics)
    except FileExistsError as error:
        msg = (
            f"{args.checkpoint_dir} holds a checkpoint of an earlier training; go on from it with --resume, or choose "
            "another --checkpoint-dir"
        )
        raise CommandError(msg) from error
    except Exception as error:
        if (model := getattr(error, "model", None)) is None:
            raise
        kept = keep(adata, args, model, key)  # the fit was well, and what followed it was not
        msg = f"the results could not be written into the data ({type(error).__name__}: {error}); "
        msg += f"what was fitted is kept in {kept}" if kept else "nor could what was fitted be kept"
        raise CommandError(msg, ExitCode.INTERNAL) from error
    return fitted, time.perf_counter() - started


def _draw(adata: Data, args: argparse.Namespace, key: str) -> None:
    cluster_and_embed(adata, key, seed=args.seed)
    default = [*default_colors(adata, key), *([args.batch_key] if args.batch_key else [])]
    draw_umap(adata, key, args.figure, colors=args.color or default)


def _additions() -> str:
    """What a fit writes: of every model, and of some."""
    lines = []
    for result in results():
        places, keys = ", ".join(result.places), [key for key, entry in MODELS.items() if result in results_of(entry)]
        text = result.description if result in RESULTS else f"{result.description} ({in_words(keys)})"
        lines += [f"  {places:<22} {text}"] if len(places) <= 22 else [f"  {places}", f"{'':25}{text}"]
    return ADDITIONS.format(results="\n".join(lines))


def _summary_help() -> str:
    return SUMMARY.replace("{mixtures}", f" ({in_words(keys_writing(CLUSTERS))})")
