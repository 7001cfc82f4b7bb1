"""``scpln evaluate``: whether clusters of fitted latent spaces agree with known labels, and PCA's as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._checks import require
from ._errors import CommandError, ExitCode
from ._files import read_h5ad

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from anndata import AnnData

DESCRIPTION = """\
Cluster the latent states that `scpln fit` wrote (scanpy's neighbours and Leiden) and compare with known labels by the
adjusted Rand index (1: the same partition, 0: as good as chance). scanpy's own pipeline (depth normalisation, log1p,
PCA, Leiden) is run on the same counts and shown beside it, with as many components as the model and with its default 50.
Values that are not counts go into the PCA as they are. Clusters that a model has found itself (countgmvae) are compared
with the labels too, also by the adjusted and the normalised mutual information.
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the sub-command to the command line."""
    parser = commands.add_parser(
        "evaluate", help="compare clusters of a fit with known labels", description=DESCRIPTION
    )
    parser.add_argument("input", type=Path, metavar="ANNOTATED.h5ad", help="what `scpln fit` wrote")
    parser.add_argument("--labels-key", required=True, metavar="OBS", help="obs column of known labels")
    parser.add_argument(
        "--key",
        action="append",
        dest="keys",
        help="name of results, such as plnpca; may be repeated (default: all results in the file)",
    )
    parser.add_argument("--layer", metavar="NAME", help="layer that holds the counts or values, for PCA (default: X)")
    parser.add_argument("--size-factor-key", metavar="OBS", help="obs column of depths, for PCA (default: totals)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> ExitCode:
    """Print a table: one line for each model, one for each PCA; and then one for each model's own clusters."""
    adata = read_h5ad(args.input)
    keys = args.keys or _results_in(adata)
    _check(adata, args, keys)
    from ._agreement import N_RUNS, RESOLUTIONS, label_agreement

    is_count_data = _is_count_data(adata, args, keys)
    labels = adata.obs[args.labels_key]
    print(f"Leiden clusters against obs[{args.labels_key!r}] ({labels.nunique()} labels): adjusted Rand index")
    print(f"over resolutions {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}, each the mean of {N_RUNS} runs")
    print(f"  {'latent space':<24}{'dimensions':>10}{'mean':>8}{'best':>8}")
    for name, latent in _latent_spaces(adata, args, keys, is_count_data=is_count_data).items():
        score = label_agreement(latent, labels, seed=args.seed)
        row = f"  {name:<24}{latent.shape[1]:>10}{score.mean:>8.3f}{score.best:>8.3f}"
        print(f"{row}  at {score.best_resolution:g}")
    if not is_count_data:
        print(f"PCA of the values of {_where(args)} as they are, since they are not counts")
    _print_own_clusters(adata, args, keys)
    return ExitCode.SUCCESS


def _results_in(adata: AnnData) -> list[str]:
    """Names of all results that ``scpln fit`` wrote; the default one if there are none."""
    fitted = [
        key
        for key, entry in adata.uns.items()
        if isinstance(entry, Mapping) and "model" in entry and f"X_{key}" in adata.obsm
    ]
    return fitted or ["plnpca"]


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


def _print_own_clusters(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> None:
    """Agreement of the clusters that models have found themselves."""
    from scpln.tl import evaluate

    columns = [f"{key}_cluster" for key in keys if f"{key}_cluster" in adata.obs]
    if columns:
        print(f"the models' own clusters against obs[{args.labels_key!r}]: ARI, AMI and NMI")
    for column in columns:
        scores = evaluate(adata, labels_key=args.labels_key, cluster_key=column)
        numbers = "".join(f"{scores[name]:>8.3f}" for name in ("ari", "ami", "nmi"))
        print(f"  {column:<24}{adata.obs[column].nunique():>10}{numbers}")


def _is_count_data(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> bool:
    """Whether the layer holds counts: by its values, and by what a fit was told of it."""
    from ._agreement import holds_counts

    matrix = adata.X if args.layer is None else adata.layers[args.layer]
    results = [adata.uns.get(key) for key in keys]
    setups = [entry.get("setup", {}) for entry in results if isinstance(entry, Mapping)]
    told_otherwise = any(setup.get("layer") == args.layer and not setup.get("is_count_data", True) for setup in setups)
    return not told_otherwise and holds_counts(matrix)


def _where(args: argparse.Namespace) -> str:
    return "X" if args.layer is None else f"layers[{args.layer!r}]"


def _check(adata: AnnData, args: argparse.Namespace, keys: list[str]) -> None:
    for rep in (f"X_{key}" for key in keys):
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
