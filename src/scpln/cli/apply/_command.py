"""``scpln predict`` and ``scpln map``: a saved model in, new cells in, annotated cells out."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln.cli._checks import require
from scpln.cli._embedding import cluster_and_embed, default_colors, draw_umap, require_cells
from scpln.cli._errors import EXIT_CODES, CommandError, ExitCode
from scpln.cli._files import read_h5ad, read_h5mu
from scpln.cli._messages import add_message_options
from scpln.cli._summary import give_summary
from scpln.cli.fit import (
    check_outputs,
    check_writable,
    is_mudata,
    keys_of_registration,
    places,
    write_annotated,
    write_config,
)
from scpln.cli.formats import layout_of
from scpln.cli.wording import OptionsParser

from ._options import TRAINING, add_options
from ._summary import SUMMARY, as_text, summarize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.data import Data
    from scpln.model import ScplnModel

DESCRIPTIONS = {
    "predict": """\
Apply a saved model to new cells: their latent states, bounds, and clusters or labels with probabilities, where the model
has them. The model stays as it is, and knows every batch and category of the cells; `scpln map` is for others.
""",
    "map": """\
Map new cells onto a saved model, the reference: batches and categories that it does not know get coefficients of their
own, which are estimated now; everything else of the model stays as it is. Latent states are in the reference's
coordinates, and with --reference in its UMAP.
""",
}
HELPS = {"predict": "apply a saved model to new cells", "map": "map cells of new batches onto a saved model"}
EPILOG = """\
examples:
  scpln {command} new.h5ad --load-model model/ --out predicted.h5ad
  scpln {command} new.h5ad --load-model model/ --reference annotated.h5ad --figure cells.png --out predicted.h5ad

NEW.h5ad has the model's genes, by name, in any order, and the layer and columns that the model was fitted with.
OUT.h5ad is NEW.h5ad with what `scpln fit` adds, under the same names (`scpln fit --help`). With --figure or
--reference, obsm["X_KEY_umap"] too. The file is written whole, or not at all.

"""


def add_parser(commands: Any, command: str) -> argparse.ArgumentParser:
    """Add one of the sub-commands to the command line."""
    parser = commands.add_parser(
        command,
        usage=_usage(command),
        help=HELPS[command],
        description=DESCRIPTIONS[command],
        epilog=EPILOG.format(command=command) + SUMMARY + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="NEW.h5ad", help="new cells; .h5mu for a model of modalities")
    add_options(parser, learns=command == "map")
    parser.set_defaults(run=partial(run, command=command))
    return parser


def options_parser(command: str) -> argparse.ArgumentParser:
    """The options alone, for what looks at them besides the command line."""
    parser = OptionsParser(prog=f"scpln {command}", usage=_usage(command), add_help=False)
    add_options(parser, learns=command == "map")
    add_message_options(parser)
    return parser


def run(args: argparse.Namespace, *, command: str) -> ExitCode:
    """Load, apply, write, and say what came out."""
    from scpln import hub
    from scpln._settings import settings

    args.command = command
    check_outputs(args)
    adata = read_h5mu(args.input) if is_mudata(args) else read_h5ad(args.input)
    model = hub.load(args.load_model, adata=False)
    key = args.key_added or type(model).__name__.lower()
    reference = None if args.reference is None else read_h5ad(args.reference)
    _check_data(adata, model, args)
    check_writable(adata, args)
    layout = layout_of(args.input)
    _check_figure(adata, reference, args, key)
    if args.write_config is not None:
        write_config(args.write_config, args, options_parser(command))

    before, started = places(adata), time.perf_counter()
    with redirect_stdout(sys.stderr), settings.override(seed=args.seed, threads=args.n_threads):
        if command == "map":
            adata, model = _mapped(adata, model, args)
        labels = None if args.reject is None else model.predict(adata, reject=args.reject)
        more = {} if args.target_error is None else {"target_error": args.target_error}
        model.annotate(adata, key_added=key, diagnostics=args.diagnostics, **more)
        if labels is not None:
            _add_labels(adata, key, labels)
    seconds = time.perf_counter() - started
    try:
        if getattr(args, "save_model", None) is not None:
            model.save(args.save_model, overwrite=args.force)
        _embed(adata, reference, args, key)
    finally:  # what was computed is not lost to a figure that fails
        for name in keys_of_registration(adata):
            del adata.uns[name]
        write_annotated(adata, args, layout, model, key)
    summary = summarize(model, adata, args, key, seconds, added=sorted(places(adata) - before))
    give_summary(summary, as_text(summary), args.summary, quiet=args.quiet)
    interrupted = command == "map" and "interrupted" in model.stop_reason.lower()
    return ExitCode.INTERRUPTED if interrupted else ExitCode.SUCCESS


def _usage(command: str) -> str:
    return f"scpln {command} NEW.h5ad --load-model DIR --out OUT.h5ad [options]"


def _check_data(adata: Data, model: ScplnModel, args: argparse.Namespace) -> None:
    """Refuse a file that lacks what the model was fitted with, before anything is computed."""
    from scpln.data import setup_args

    setup = setup_args(model.registry)
    if model.modalities and not is_mudata(args):
        msg = f"the model in {args.load_model} is of the modalities {', '.join(model.modalities)}: pass an .h5mu that has them"
        raise CommandError(msg)
    if is_mudata(args) and not model.modalities:
        msg = f"the model in {args.load_model} is of one AnnData: write the modality that it is for as .h5ad, and pass that"
        raise CommandError(msg)
    if args.reject is not None and not getattr(model, "has_clusters", False):
        msg = f"--reject is for models with clusters or labels, and {args.load_model} is a {type(model).__name__}"
        raise CommandError(msg)
    if args.reject is not None and args.reject >= 1:
        msg = f"--reject is a share of cells, below 1, not {args.reject:g}"
        raise CommandError(msg)
    if args.target_error is not None and not hasattr(model, "predict_sets"):
        msg = f"--target-error is for a LabelClassifier, and {args.load_model} is a {type(model).__name__}"
        raise CommandError(msg)
    if args.target_error is not None and args.target_error >= 1:
        msg = f"--target-error is a share of cells, below 1, not {args.target_error:g}"
        raise CommandError(msg)
    if args.command == "map" and not hasattr(model, "load_query_data"):
        msg = f"new cells cannot be mapped onto a {type(model).__name__}"
        raise CommandError(msg)
    if args.command == "map" and args.fill_missing and model.modalities:
        msg = "--fill-missing is for an .h5ad; fill genes of a modality in Python, or leave it out"
        raise CommandError(msg)
    if not model.modalities:
        require("the model's layer", setup["layer"], adata.layers, "layers")
        for name in ("offset_key", "mask_key"):
            require(f"the model's {name}", setup.get(name), [*adata.layers, *adata.obsm], "layers or obsm")
    columns = [setup["batch_key"], setup.get("size_factor_key")]
    for name in ("categorical_covariate_keys", "continuous_covariate_keys"):
        columns += setup[name] or []
    if setup.get("design") is not None:
        from scpln.data import columns_in

        columns += columns_in(setup["design"])
    for column in columns:
        require("the model's column", column, adata.obs, "obs")


def _check_figure(adata: Data, reference: Data | None, args: argparse.Namespace, key: str) -> None:
    if args.basis is not None and reference is None:
        msg = "--basis is an embedding of the reference; say where that is with --reference"
        raise CommandError(msg)
    if reference is not None:
        from ._reference import check_reference

        check_reference(reference, args.reference, key, args.basis)
    elif args.figure is not None:
        require_cells(adata)
    genes = [] if is_mudata(args) else list(adata.var_names)
    for name in args.color or ():
        known = [*adata.obs, f"{key}_cluster", *([] if reference is not None else [f"{key}_leiden"]), *genes]
        require("--color", name, known, "obs or the genes" if genes else "obs")


def _add_labels(adata: Data, key: str, labels: NDArray) -> None:
    """Add ``obs["{key}_label"]``, with cells that were refused."""
    import pandas as pd

    from scpln.model.base import claim

    adata.obs[f"{key}_label"] = pd.Categorical([str(label) for label in labels])
    claim(adata, key, [f"obs['{key}_label']"])


def _mapped(adata: Data, model: Any, args: argparse.Namespace) -> tuple[Data, ScplnModel]:
    """The cells, with the model's genes where some were filled in, and a model of them on the reference."""
    model_class = type(model)
    if args.fill_missing:
        adata = model_class.prepare_query_anndata(adata, model, inplace=False, fill_missing=True)
    mapped = model_class.load_query_data(adata, model)
    if mapped.new_categories:
        training = {name: value for name in TRAINING if (value := getattr(args, name)) is not None}
        progress = sys.stderr.isatty() and not args.quiet
        mapped.train(seed=args.seed, n_threads=args.n_threads, progress=progress, **training)
    return adata, mapped


def _embed(adata: Data, reference: Data | None, args: argparse.Namespace, key: str) -> None:
    """Place the cells in the reference's UMAP, or in one of their own, and draw them where that was asked for."""
    if reference is not None:
        from ._reference import draw_both, place

        place(adata, reference, key, basis=args.basis, seed=args.seed)
        if args.figure is not None:
            colors = args.color or default_colors(adata, key)
            draw_both(adata, reference, key, args.figure, basis=args.basis, colors=colors)
    elif args.figure is not None:
        cluster_and_embed(adata, key, seed=args.seed)
        draw_umap(adata, key, args.figure, colors=args.color or default_colors(adata, key))
