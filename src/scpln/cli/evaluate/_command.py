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
adjusted Rand index (ARI; 1: the same partition, 0: as good as chance) and the normalised mutual information (NMI; 1: the
same, 0: nothing in common). scanpy's own pipeline (depth normalisation, log1p, PCA, Leiden) is run on what was fitted,
the same layer and size factors, and shown beside it, with as many components as the model and with its default 50.
Values that are not counts go into the PCA as they are. Clusters that a model has found itself ({models}) are compared
with the labels too, also by the adjusted mutual information.
"""
SUMMARY = """\
--summary FILE.json writes:
  input, labels_key, layer, size_factor_key, seed, versions, n_cells, n_labels, is_count_data
  latent_spaces          list of {"name", "n_dimensions", "ari_mean", "ari_best", "ari_best_resolution", "nmi_mean",
                         "nmi_best" (at that resolution)}, over "resolutions", each the mean of "n_runs" runs
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
    parser.add_argument(
        "--layer", metavar="NAME", help="layer that holds the counts or values, for PCA (default: what was fitted)"
    )
    parser.add_argument(
        "--size-factor-key",
        metavar="OBS",
        help="obs column of depths, for PCA (default: what was fitted with, or totals)",
    )
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
    _check_results(adata, args, keys)
    _use_setup(adata, args, keys)
    _check_data(adata, args)
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
        scores.append({"name": name, "n_dimensions": latent.shape[1], **score._asdict()})
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
        "size_factor_key": args.size_factor_key,
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
        f"Leiden clusters against {labels} ({summary['n_labels']} labels): ARI, adjusted Rand index, and NMI, normalised",
        f"mutual information; over resolutions {resolutions[0]} to {resolutions[-1]}, each the mean of {summary['n_runs']} runs",
        f"  {'latent space':<24}{'dimensions':>10}{'ARI mean':>10}{'best':>8}{'NMI mean':>10}{'best':>8}",
    ]
    for each in summary["latent_spaces"]:
        ari = f"{each['ari_mean']:>10.3f}{each['ari_best']:>8.3f}"
        nmi = f"{each['nmi_mean']:>10.3f}{each['nmi_best']:>8.3f}"
        row = f"  {each['name']:<24}{each['n_dimensions']:>10}{ari}{nmi}"
        lines.append(f"{row}  at {each['ari_best_resolution']:g}")
    where, depth = "X" if summary["layer"] is None else f"layers[{summary['layer']!r}]", summary["size_factor_key"]
    if summary["is_count_data"]:
        lines.append(f"PCA of {where}, by {'total counts' if depth is None else f'obs[{depth!r}]'}")
    else:
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
    setups = _setups(adata, keys).values()
    told_otherwise = any(setup.get("layer") == args.layer and not setup.get("is_count_data", True) for setup in setups)
    rounded = any(setup.get("layer") == args.layer and setup.get("round_counts", False) for setup in setups)
    return not told_otherwise and (rounded or holds_counts(matrix))


def _setups(adata: AnnData, keys: list[str]) -> dict[str, Mapping[str, Any]]:
    """What each fit was told of its data, by the name of its results, where the file says so."""
    entries = {key: entry for key in keys if isinstance(entry := adata.uns.get(key), Mapping)}
    return {key: setup for key, entry in entries.items() if isinstance(setup := entry.get("setup"), Mapping)}


def _use_setup(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> None:
    """Take layer and size factors from what was fitted, unless a layer was given, whose size factors are its own."""
    setups = _setups(adata, keys)
    if args.layer is not None or not setups:
        args.layer = None if args.layer == "X" and "X" not in adata.layers else args.layer
        return
    fitted = {key: (setup.get("layer"), setup.get("size_factor_key")) for key, setup in setups.items()}
    if len({layer for layer, _ in fitted.values()}) > 1:
        places = ", ".join(f"{key}: {layer or 'X'}" for key, (layer, _) in fitted.items())
        msg = f"results in {args.input} are of several layers ({places}): choose the one for PCA with --layer, or results with --key"
        raise CommandError(msg)
    args.layer = next(iter(fitted.values()))[0]
    if args.size_factor_key is None:
        depths = {depth for _, depth in fitted.values()}
        args.size_factor_key = depths.pop() if len(depths) == 1 else None


def _check_results(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> None:
    for rep in (f"X_{key}" for key in keys):
        if rep not in adata.obsm:
            msg = f"{args.input} has no obsm[{rep!r}]; run `scpln fit` first, or name its results with --key"
            raise CommandError(msg)
    require("--labels-key", args.labels_key, adata.obs, "obs")
    n_labels = adata.obs[args.labels_key].nunique()
    if n_labels < 2:
        msg = f"--labels-key {args.labels_key!r} has {n_labels} different labels, and agreement needs two or more"
        raise CommandError(msg)


def _check_data(adata: AnnData, args: argparse.Namespace) -> None:
    require("--size-factor-key", args.size_factor_key, adata.obs, "obs")
    require("--layer", args.layer, adata.layers, "layers")
    if args.layer is None and adata.X is None:
        msg = (
            f"{args.input} has no X; name a layer with --layer (found: {', '.join(map(repr, adata.layers)) or 'none'})"
        )
        raise CommandError(msg)
