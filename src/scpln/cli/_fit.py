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
from ._errors import EXIT_CODES, CommandError, ExitCode
from ._files import check_output, read_h5ad, whole_file
from ._fit_models import MODELS, check_options, parameters, registration, training
from ._fit_options import add_options

if TYPE_CHECKING:
    from anndata import AnnData

    from scpln.model._bounds import Bounds

EXAMPLES = """\
examples:
  scpln fit counts.h5ad --layer counts --out annotated.h5ad
  scpln fit counts.h5ad --layer counts --batch-key donor --size-factor-key total_counts \\
      --n-latent 20 --out annotated.h5ad --figure umap.png --save-model model/
  scpln fit counts.h5ad --layer counts --likelihood nb --posterior flow --out annotated.h5ad
  scpln fit counts.h5ad --model countvae --layer counts --n-hidden 256 --out annotated.h5ad
  scpln fit counts.h5ad --model countgmvae --layer counts --n-components 12 --out annotated.h5ad
  scpln fit proteins.h5ad --layer clr --likelihood gaussian --out annotated.h5ad

OUT.h5ad is IN.h5ad with these additions (KEY is the model's name, or --key-added):
  obsm["X_KEY"]          latent state of every cell: sc.pp.neighbors(adata, use_rep="X_KEY")
  varm["KEY_loadings"]   loadings of every gene (plnpca)
  obs["KEY_cluster"], obsm["KEY_cluster_probs"]
                         cluster of every cell, and probabilities of all clusters (countgmvae)
  obs["KEY_elbo"]        each cell's contribution to the bound, nats
  obs["KEY_iw_bound"], obs["KEY_gap"], obs["KEY_ess"], obs["KEY_pareto_k"]
                         how close its posterior is to the exact one, where that is quick to say
  var["KEY_inverse_dispersion"], var["KEY_zero_inflation"]
                         parameters that the likelihood has by gene
  uns["KEY"]             what was fitted and how
  obsm["X_KEY_umap"], obs["KEY_leiden"]   only with --figure
It is written whole, or not at all.

"""

MOST_CLUSTERS = 8
"""Clusters whose sizes the summary shows."""


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
    require("--labels-key", args.labels_key, adata.obs, "obs")
    require("--size-factor-key", args.size_factor_key, adata.obs, "obs")
    for name in args.categorical_covariate or ():
        require("--categorical-covariate", name, adata.obs, "obs")
    for name in args.continuous_covariate or ():
        require("--continuous-covariate", name, adata.obs, "obs")
    for name in args.color or ():
        require("--color", name, [*adata.obs, *_columns(args, key), *adata.var_names], "obs or the genes")
    if args.figure is not None:
        require_cells(adata)


def _columns(args: argparse.Namespace, key: str) -> list[str]:
    """Columns of obs that there will be."""
    return [f"{key}_{name}" for name in ("leiden", "elbo", *(["cluster"] if args.model == "countgmvae" else []))]


def _fitted(adata: AnnData, args: argparse.Namespace, key: str) -> tuple[Bounds, float]:
    """Return the trained model, and how long that took once everything was imported."""
    from scpln import model
    from scpln.tl._fit import fit

    started = time.perf_counter()
    try:
        fitted = fit(
            getattr(model, MODELS[args.model].class_name),
            adata,
            registration=registration(args),
            parameters=parameters(args),
            training={**training(args), "progress": sys.stderr.isatty() and not args.quiet},
            key_added=key,
        )
    except FileExistsError as error:
        msg = (
            f"{args.checkpoint_dir} holds a checkpoint of an earlier training; go on from it with --resume, or choose "
            "another --checkpoint-dir"
        )
        raise CommandError(msg) from error
    return fitted, time.perf_counter() - started


def _draw(adata: AnnData, args: argparse.Namespace, key: str) -> None:
    cluster_and_embed(adata, key, seed=args.seed)
    clusters = f"{key}_{'cluster' if f'{key}_cluster' in adata.obs else 'leiden'}"
    default = [clusters, *([args.batch_key] if args.batch_key else [])]
    draw_umap(adata, key, args.figure, colors=args.color or default)


def _keys_of_registration(adata: AnnData) -> list[str]:
    """Entries of uns that tie an AnnData to the models of this process, and mean nothing in a file."""
    return [name for name in adata.uns if name.startswith("_scvi_")]


def _keys(adata: AnnData) -> set[str]:
    """Every place in `adata` that holds something, as a user would write it."""
    return {f"{slot}[{key!r}]" for slot in ("obs", "obsm", "var", "varm", "uns") for key in getattr(adata, slot)}


def _print_summary(
    model: Bounds, adata: AnnData, args: argparse.Namespace, key: str, seconds: float, written: list[str]
) -> None:
    from scpln.model._terms import conditions

    rows = {
        "cells": f"{adata.n_obs:,}",
        "genes": f"{adata.n_vars:,}",
        "latent dimensions": args.n_latent,
        "likelihood": args.likelihood,
        "posterior": _posterior_in_words(model),
        "clusters": _clusters_in_words(adata, key),
        "bound per cell": f"{adata.uns[key]['elbo']:.3f} nats{conditions(model)}",
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


def _posterior_in_words(model: Any) -> str:
    """Family, kind of flow, and where the posteriors come from."""
    parts = getattr(model, "architecture", model)
    family = parts.posterior if parts.flow is None else f"{parts.posterior} ({parts.flow})"
    return f"{family}, from an encoder" if getattr(model, "amortized", True) else family


def _clusters_in_words(adata: AnnData, key: str) -> str | None:
    """Number of clusters of a mixture, and the cells of the largest."""
    if f"{key}_cluster" not in adata.obs:
        return None
    sizes = adata.obs[f"{key}_cluster"].value_counts()
    used = sizes[sizes > 0]
    largest = ", ".join(f"{name} ({size:,})" for name, size in used.iloc[:MOST_CLUSTERS].items())
    effective = adata.uns[key]["n_effective_clusters"]
    more = ", …" if len(used) > MOST_CLUSTERS else ""
    return f"{len(used)} of {len(sizes)} components have cells, {effective:.1f} effective: {largest}{more}"
