"""``scpln fit``: counts in, annotated counts out."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._checks import require
from ._embedding import FIGURE_SUFFIXES, cluster_and_embed, draw_umap, require_cells
from ._errors import EXIT_CODES, ExitCode
from ._files import check_output, read_h5ad, whole_file
from ._fit_options import MODELS, add_options, check_options

if TYPE_CHECKING:
    from anndata import AnnData

    from scpln.model import PLNPCA

EXAMPLES = """\
examples:
  scpln fit counts.h5ad --layer counts --out annotated.h5ad
  scpln fit counts.h5ad --layer counts --batch-key donor --size-factor-key total_counts \\
      --n-latent 20 --out annotated.h5ad --figure umap.png --save-model model/
  scpln fit counts.h5ad --layer counts --likelihood nb --posterior flow --out annotated.h5ad
  scpln fit proteins.h5ad --layer clr --likelihood gaussian --out annotated.h5ad

OUT.h5ad is IN.h5ad with these additions (KEY is the model's name, or --key-added):
  obsm["X_KEY"]          latent state of every cell: sc.pp.neighbors(adata, use_rep="X_KEY")
  varm["KEY_loadings"]   loadings of every gene
  obs["KEY_elbo"]        each cell's contribution to the bound, nats
  obs["KEY_iw_bound"], obs["KEY_gap"], obs["KEY_ess"], obs["KEY_pareto_k"]
                         how close its posterior is to the exact one, where that is quick to say
  uns["KEY"]             what was fitted and how
  obsm["X_KEY_umap"], obs["KEY_leiden"]   only with --figure
It is written whole, or not at all.

"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    parser = commands.add_parser(
        "fit",
        usage="scpln fit IN.h5ad --out OUT.h5ad [options]",
        help="fit a model to the counts in an .h5ad file",
        description="Fit a model to raw counts in an .h5ad file (or to real values, with --likelihood gaussian) and write\n"
        "the annotated file.",
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="IN.h5ad", help="cells by genes, raw counts or real values")
    add_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Read, fit, write, and say what came out."""
    check_options(args)
    _check_outputs(args)
    adata = read_h5ad(args.input)
    key = args.key_added or args.model
    _check_names(adata, args, key)

    keys_before = _keys(adata)
    with redirect_stdout(sys.stderr):  # the progress bar's place: stdout is for the summary
        model, seconds = _fitted(adata, args, key)

    try:
        if args.save_model is not None:
            model.save(args.save_model, overwrite=args.force)
        if args.figure is not None:
            _draw(adata, args, key)
    finally:  # a fit is not lost to a figure that fails or to an impatient Ctrl-C
        for name in _keys_of_registration(adata):
            del adata.uns[name]
        with whole_file(args.out) as path:
            adata.write_h5ad(path)
    if not args.quiet:
        _print_summary(model, adata, args, key, seconds, written=sorted(_keys(adata) - keys_before))
    return ExitCode.INTERRUPTED if "interrupted" in model.stop_reason.lower() else ExitCode.SUCCESS


def _check_outputs(args: argparse.Namespace) -> None:
    check_output(args.out, force=args.force, suffixes=(".h5ad",))
    if args.figure is not None:
        check_output(args.figure, force=args.force, suffixes=FIGURE_SUFFIXES)
    if args.save_model is not None:
        check_output(args.save_model, force=args.force, directory=True)


def _check_names(adata: AnnData, args: argparse.Namespace, key: str) -> None:
    require("--layer", args.layer, adata.layers, "layers")
    require("--batch-key", args.batch_key, adata.obs, "obs")
    require("--size-factor-key", args.size_factor_key, adata.obs, "obs")
    for name in args.categorical_covariate or ():
        require("--categorical-covariate", name, adata.obs, "obs")
    for name in args.continuous_covariate or ():
        require("--continuous-covariate", name, adata.obs, "obs")
    for name in args.color or ():
        require("--color", name, [*adata.obs, f"{key}_leiden", f"{key}_elbo", *adata.var_names], "obs or the genes")
    if args.figure is not None:
        require_cells(adata)


def _fitted(adata: AnnData, args: argparse.Namespace, key: str) -> tuple[PLNPCA, float]:
    """Return the trained model, and how long that took once everything was imported."""
    from scpln import model
    from scpln.tl._fit import fit

    started = time.perf_counter()
    fitted = fit(
        getattr(model, MODELS[args.model]),
        adata,
        registration={
            "layer": args.layer,
            "batch_key": args.batch_key,
            "size_factor_key": args.size_factor_key,
            "categorical_covariate_keys": args.categorical_covariate,
            "continuous_covariate_keys": args.continuous_covariate,
            "is_count_data": args.likelihood != "gaussian",
        },
        parameters={
            "n_latent": args.n_latent,
            "posterior": args.posterior,
            "likelihood": args.likelihood,
            "amortized": args.amortized,
            "flow": args.flow,
        },
        training={
            "max_epochs": args.max_epochs,
            "n_steps": args.n_steps,
            "n_importance_samples": args.n_importance_samples,
            **({} if args.learning_rate is None else {"learning_rate": args.learning_rate}),
            "seed": args.seed,
            "n_threads": args.threads,
            "progress": sys.stderr.isatty() and not args.quiet,
        },
        key_added=key,
    )
    return fitted, time.perf_counter() - started


def _draw(adata: AnnData, args: argparse.Namespace, key: str) -> None:
    cluster_and_embed(adata, key, seed=args.seed)
    default = [f"{key}_leiden", *([args.batch_key] if args.batch_key else [])]
    draw_umap(adata, key, args.figure, colors=args.color or default)


def _keys_of_registration(adata: AnnData) -> list[str]:
    """Entries of uns that tie an AnnData to the models of this process, and mean nothing in a file."""
    return [name for name in adata.uns if name.startswith("_scvi_")]


def _keys(adata: AnnData) -> set[str]:
    """Every place in `adata` that holds something, as a user would write it."""
    return {f"{slot}[{key!r}]" for slot in ("obs", "obsm", "varm", "uns") for key in getattr(adata, slot)}


def _print_summary(
    model: PLNPCA, adata: AnnData, args: argparse.Namespace, key: str, seconds: float, written: list[str]
) -> None:
    rows = {
        "cells": f"{adata.n_obs:,}",
        "genes": f"{adata.n_vars:,}",
        "latent dimensions": args.n_latent,
        "likelihood": args.likelihood,
        "posterior": _posterior_in_words(model),
        "bound per cell": f"{adata.uns[key]['elbo']:.3f} nats{_condition(args)}",
        "reliability": model.training_["posterior"],
        "training": model.stop_reason,
        "seconds": f"{seconds:.1f}",
        "wrote": args.out,
        "added": ", ".join(written),
        "figure": args.figure,
        "model": args.save_model,
    }
    print(f"{type(model).__name__} of {args.input}")
    for name, value in rows.items():
        if value is not None:
            print(f"  {name:<19}{value}")


def _posterior_in_words(model: PLNPCA) -> str:
    """Family, kind of flow, and where the posteriors come from."""
    family = model.posterior if model.flow is None else f"{model.posterior} ({model.flow})"
    return f"{family}, from an encoder" if model.amortized else family


def _condition(args: argparse.Namespace) -> str:
    """What the bound is conditioned on, after its unit."""
    given = args.likelihood != "gaussian" or args.size_factor_key is not None
    return ", given the size factors" if given else ""
