"""``scpln evaluate``: whether clusters of fitted latent spaces agree with known labels, and PCA's as well."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scpln._catalogue import default_key, in_words, keys_writing
from scpln.cli._checks import require
from scpln.cli._errors import EXIT_CODES, CommandError, ExitCode
from scpln.cli._files import read_h5ad
from scpln.cli._results import results_in
from scpln.cli._summary import add_summary_option, check_summary, give_summary
from scpln.cli._versions import versions

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData

DESCRIPTION = """\
Cluster the latent states that `scpln fit` wrote (scanpy's neighbours and Leiden) and compare with known labels by the
adjusted Rand index (1: the same partition, 0: as good as chance). scanpy's own pipeline (depth normalisation, log1p,
PCA, Leiden) is run on the same counts and shown beside it, with as many components as the model and with its default 50.
Values that are not counts go into the PCA as they are. Clusters that a model has found itself ({models}) are compared
with the labels too, also by the adjusted and the normalised mutual information.
"""
SUMMARY = """\
--summary FILE.json writes:
  input, labels_key, layer, seed, versions, n_cells, n_labels, is_count_data
  latent_spaces          list of {"name", "n_dimensions", "ari_mean", "ari_best", "ari_best_resolution"},
                         over "resolutions", each the mean of "n_runs" runs
  clusters               list of {"name", "n_clusters", "ari", "ami", "nmi"}

"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="compare clusters of a fit with known labels",
        description=DESCRIPTION.format(models=in_words(keys_writing('obs["KEY_cluster"]'))),
        epilog=SUMMARY + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="ANNOTATED.h5ad", help="what `scpln fit` wrote")
    parser.add_argument("--labels-key", required=True, metavar="OBS", help="obs column of known labels")
    parser.add_argument(
        "--key",
        action="append",
        dest="keys",
        metavar="KEY",
        help=f"name of results, such as {default_key()}; may be repeated (default: all results in the file)",
    )
    parser.add_argument("--layer", metavar="NAME", help="layer that holds the counts or values, for PCA (default: X)")
    parser.add_argument("--size-factor-key", metavar="OBS", help="obs column of depths, for PCA (default: totals)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    add_summary_option(parser)
    parser.add_argument("--force", "--overwrite", action="store_true", help="replace an output that exists")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Print a table: one line for each model, one for each PCA; and then one for each model's own clusters."""
    check_summary(args.summary, force=args.force)
    adata = read_h5ad(args.input)
    keys = args.keys or [key for key in results_in(adata) if f"X_{key}" in adata.obsm] or [default_key()]
    _check(adata, args, keys)
    summary = _summarize(adata, args, keys)
    give_summary(summary, _in_words(summary), args.summary, quiet=False)
    return ExitCode.SUCCESS


def _summarize(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> dict[str, Any]:
    """Scores of all latent spaces and clusters; ``scpln evaluate --help`` lists them."""
    from ._agreement import N_RUNS, RESOLUTIONS, label_agreement

    is_count_data = _is_count_data(adata, args, keys)
    labels = adata.obs[args.labels_key]
    scores = []
    for name, latent in _latent_spaces(adata, args, keys, is_count_data=is_count_data).items():
        score = label_agreement(latent, labels, seed=args.seed)
        scores.append(
            {"name": name, "n_dimensions": latent.shape[1], **{f"ari_{k}": v for k, v in score._asdict().items()}}
        )
    return {
        "command": "evaluate",
        "versions": versions(),
        "input": args.input,
        "labels_key": args.labels_key,
        "n_cells": adata.n_obs,
        "n_labels": labels.nunique(),
        "resolutions": RESOLUTIONS,
        "n_runs": N_RUNS,
        "seed": args.seed,
        "layer": args.layer,
        "is_count_data": is_count_data,
        "latent_spaces": scores,
        "clusters": _own_clusters(adata, args, keys),
    }


def _own_clusters(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> list[dict[str, Any]]:
    """Agreement of the clusters that models have found themselves."""
    from scpln.tl import evaluate

    found = []
    for column in (f"{key}_cluster" for key in keys if f"{key}_cluster" in adata.obs):
        scores = evaluate(adata, labels_key=args.labels_key, cluster_key=column)
        values = {name: scores[name] for name in ("ari", "ami", "nmi")}
        found.append({"name": column, "n_clusters": adata.obs[column].nunique(), **values})
    return found


def _in_words(summary: dict[str, Any]) -> str:
    """The same as tables."""
    labels, resolutions = f"obs[{summary['labels_key']!r}]", summary["resolutions"]
    lines = [
        f"Leiden clusters against {labels} ({summary['n_labels']} labels): adjusted Rand index",
        f"over resolutions {resolutions[0]} to {resolutions[-1]}, each the mean of {summary['n_runs']} runs",
        f"  {'latent space':<24}{'dimensions':>10}{'mean':>8}{'best':>8}",
    ]
    for each in summary["latent_spaces"]:
        row = f"  {each['name']:<24}{each['n_dimensions']:>10}{each['ari_mean']:>8.3f}{each['ari_best']:>8.3f}"
        lines.append(f"{row}  at {each['ari_best_resolution']:g}")
    if not summary["is_count_data"]:
        where = "X" if summary["layer"] is None else f"layers[{summary['layer']!r}]"
        lines.append(f"PCA of the values of {where} as they are, since they are not counts")
    if summary["clusters"]:
        lines.append(f"the models' own clusters against {labels}: ARI, AMI and NMI")
    for each in summary["clusters"]:
        numbers = "".join(f"{each[name]:>8.3f}" for name in ("ari", "ami", "nmi"))
        lines.append(f"  {each['name']:<24}{each['n_clusters']:>10}{numbers}")
    return "\n".join(lines)


def _latent_spaces(
    adata: AnnData, args: argparse.Namespace, keys: list[str], *, is_count_data: bool
) -> dict[str, np.ndarray]:
    """Latent states by name: of the models, and of PCAs with as many dimensions, and 50."""
    from ._agreement import scanpy_pca

    latents = {f"X_{key}": adata.obsm[f"X_{key}"] for key in keys}
    numbers = sorted({latent.shape[1] for latent in latents.values()})
    for n_comps in dict.fromkeys((*numbers, 50)):
        name = "scanpy PCA" if n_comps in numbers else "scanpy PCA, its default"
        latents[name if len(numbers) == 1 or n_comps not in numbers else f"{name}, {n_comps}"] = scanpy_pca(
            adata,
            layer=args.layer,
            size_factor_key=args.size_factor_key,
            n_comps=n_comps,
            is_count_data=is_count_data,
        )
    return latents


def _is_count_data(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> bool:
    """Whether the layer holds counts: by its values, and by what a fit was told of it."""
    from ._agreement import holds_counts

    matrix = adata.X if args.layer is None else adata.layers[args.layer]
    results = [adata.uns.get(key) for key in keys]
    setups = [entry.get("setup", {}) for entry in results if isinstance(entry, Mapping)]
    told_otherwise = any(setup.get("layer") == args.layer and not setup.get("is_count_data", True) for setup in setups)
    rounded = any(setup.get("layer") == args.layer and setup.get("round_counts", False) for setup in setups)
    return not told_otherwise and (rounded or holds_counts(matrix))


def _check(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> None:
    for rep in (f"X_{key}" for key in keys):
        if rep not in adata.obsm:
            msg = f"{args.input} has no obsm[{rep!r}]; run `scpln fit` first, or name its results with --key"
            raise CommandError(msg)
    require("--labels-key", args.labels_key, adata.obs, "obs")
    n_labels = adata.obs[args.labels_key].nunique()
    if n_labels < 2:
        msg = f"--labels-key {args.labels_key!r} has {n_labels} different labels, and agreement needs two or more"
        raise CommandError(msg)
    require("--size-factor-key", args.size_factor_key, adata.obs, "obs")
    require("--layer", args.layer, adata.layers, "layers")
    if args.layer is None and adata.X is None:
        msg = (
            f"{args.input} has no X; name a layer with --layer (found: {', '.join(map(repr, adata.layers)) or 'none'})"
        )
        raise CommandError(msg)
