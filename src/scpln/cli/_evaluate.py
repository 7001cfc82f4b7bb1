"""``scpln evaluate``: whether clusters of a fitted latent space agree with known labels, and PCA's as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._checks import require
from ._errors import CommandError, ExitCode
from ._files import read_h5ad

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData

DESCRIPTION = """\
Cluster the latent states that `scpln fit` wrote (scanpy's neighbours and Leiden) and compare with known labels by the
adjusted Rand index (1: the same partition, 0: as good as chance). scanpy's own pipeline (depth normalisation, log1p,
PCA, Leiden) is run on the same counts and shown beside it, with as many components as the model and with its default 50.
Values that are not counts go into the PCA as they are.
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    parser = commands.add_parser(
        "evaluate", help="compare clusters of a fit with known labels", description=DESCRIPTION
    )
    parser.add_argument("input", type=Path, metavar="ANNOTATED.h5ad", help="what `scpln fit` wrote")
    parser.add_argument("--labels-key", required=True, metavar="OBS", help="obs column of known labels")
    parser.add_argument("--key", default="plnpca", help="name of the results (default: %(default)s)")
    parser.add_argument("--layer", metavar="NAME", help="layer that holds the counts or values, for PCA (default: X)")
    parser.add_argument("--size-factor-key", metavar="OBS", help="obs column of depths, for PCA (default: totals)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Print a table: one line for the model, one for each PCA."""
    adata = read_h5ad(args.input)
    _check(adata, args)
    from ._agreement import N_RUNS, RESOLUTIONS, label_agreement, scanpy_pca

    is_count_data = _is_count_data(adata, args)
    latents = {f"X_{args.key}": adata.obsm[f"X_{args.key}"]}
    q = latents[f"X_{args.key}"].shape[1]
    for n_comps in dict.fromkeys((q, 50)):
        pca = scanpy_pca(
            adata,
            layer=args.layer,
            size_factor_key=args.size_factor_key,
            n_comps=n_comps,
            is_count_data=is_count_data,
        )
        latents["scanpy PCA" if n_comps == q else "scanpy PCA, its default"] = pca

    labels = adata.obs[args.labels_key]
    print(f"Leiden clusters against obs[{args.labels_key!r}] ({labels.nunique()} labels): adjusted Rand index")
    print(f"over resolutions {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}, each the mean of {N_RUNS} runs")
    print(f"  {'latent space':<24}{'dimensions':>10}{'mean':>8}{'best':>8}")
    for name, latent in latents.items():
        score = label_agreement(latent, labels, seed=args.seed)
        row = f"  {name:<24}{latent.shape[1]:>10}{score.mean:>8.3f}{score.best:>8.3f}"
        print(f"{row}  at {score.best_resolution:g}")
    if not is_count_data:
        print(f"PCA of the values of {_where(args)} as they are, since they are not counts")
    return ExitCode.SUCCESS


def _is_count_data(adata: AnnData, args: argparse.Namespace) -> bool:
    """Whether the layer holds counts: by its values, and by what a fit was told of it."""
    from ._agreement import holds_counts

    matrix = adata.X if args.layer is None else adata.layers[args.layer]
    results = adata.uns.get(args.key)
    setup = results.get("setup", {}) if isinstance(results, Mapping) else {}
    told_otherwise = setup.get("layer") == args.layer and not setup.get("is_count_data", True)
    return not told_otherwise and holds_counts(matrix)


def _where(args: argparse.Namespace) -> str:
    return "X" if args.layer is None else f"layers[{args.layer!r}]"


def _check(adata: AnnData, args: argparse.Namespace) -> None:
    rep = f"X_{args.key}"
    if rep not in adata.obsm:
        msg = f"{args.input} has no obsm[{rep!r}]; run `scpln fit` first, or name its results with --key"
        raise CommandError(msg)
    require("--labels-key", args.labels_key, adata.obs, "obs")
    require("--size-factor-key", args.size_factor_key, adata.obs, "obs")
    require("--layer", args.layer, adata.layers, "layers")
    if args.layer is None and adata.X is None:
        msg = (
            f"{args.input} has no X; name a layer with --layer (found: {', '.join(map(repr, adata.layers)) or 'none'})"
        )
        raise CommandError(msg)
