"""Integration of batches by scib-metrics' scores, beside SCVI, Harmony and PCA; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import time
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import machine_facts
from report import show_facts
from usefulness import warm_up
from usefulness_data import DATA_SETS, Limits, read
from usefulness_methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from autoencoder_data import Split
    from numpy.typing import NDArray

BATCHED = tuple(name for name, (_, batch_key, _) in DATA_SETS.items() if batch_key)
TOTALS = ("Bio conservation", "Batch correction", "Total")
#: Cells and genes at most.
LIMITS = Limits(3000, 1500, batches=True)


def of(method: str, space: str = "") -> Callable[[Split, int, int], NDArray[np.float64]]:
    """A latent space of a method of the usefulness comparison."""
    return lambda split, n_latent, seed: METHODS[method](split.cells, split, n_latent, seed).spaces()[space]


def harmony(split: Split, n_latent: int, seed: int) -> NDArray[np.float64]:
    """Harmony of principal components of log-normalised counts, with its defaults."""
    import harmonypy

    components = of("PCA")(split, n_latent, seed)
    found = harmonypy.run_harmony(
        components, split.cells.obs, split.batch_key, verbose=False, random_state=seed, ncores=1
    )
    corrected = np.asarray(found.Z_corr)
    return corrected if corrected.shape == components.shape else corrected.T


#: Every method. To compare another one, add it here. Harmony is left out where harmonypy is not installed.
EMBEDDINGS: dict[str, Callable[[Split, int, int], NDArray[np.float64]]] = {
    "PCA": of("PCA"),
    **({"Harmony": harmony} if find_spec("harmonypy") else {}),
    "PLN-PCA": of("PLN-PCA, learned", "expression"),
    "PLN-PCA, NB": of("PLN-PCA, learned, NB", "expression"),
    "CountVAE": of("CountVAE"),
    "CountGMVAE": of("CountGMVAE"),
    "SCVI": of("SCVI"),
}


def main() -> None:
    """Run what the results lack, then report all of them."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    if not find_spec("scib_metrics"):
        print("scib-metrics is not installed: integration is skipped; see benchmarks/README.md")
        return
    if not args.report:
        execute(args)
    report(args.out / "results.jsonl")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the data sets; those that it lacks are skipped")
    parser.add_argument("--data-sets", nargs="+", choices=BATCHED, default=list(BATCHED))
    parser.add_argument("--methods", nargs="+", choices=EMBEDDINGS, default=list(EMBEDDINGS))
    parser.add_argument("--n-latent", type=int, default=10)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("build/bench/integration"), help="folder of results")
    parser.add_argument("--report", action="store_true", help="run nothing, report the results that are there")
    args = parser.parse_args()
    if args.data is None and not args.report:
        parser.error("--data is needed, unless with --report")
    return args


def execute(args: argparse.Namespace) -> None:
    """Do what is not there, and append each result to `results.jsonl`; what failed is tried again."""
    path = args.out / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {one["key"] for one in map(json.loads, lines) if "error" not in one}
    warm_up()
    with path.open("a") as file:
        for seed in args.seeds:
            for name in (name for name in args.data_sets if (args.data / DATA_SETS[name][0]).exists()):
                split = _labelled(read(name, args.data, LIMITS, seed))
                for method in args.methods:
                    key = f"{name}/{method}/{args.n_latent}/{seed}"
                    if key in done:
                        continue
                    result = {"key": key, "data_set": name, "method": method, "n_latent": args.n_latent, "seed": seed}
                    result |= run(split, method, args.n_latent, seed)
                    file.write(json.dumps(result) + "\n")
                    file.flush()
                    print(f"{key}: {result.get('error') or result['scores']['Total']}", flush=True)


def _labelled(split: Split) -> Split:
    """The cells that have a label."""
    from dataclasses import replace

    return replace(split, cells=split.cells[split.known].copy(), held_out=split.held_out[split.known])


def run(split: Split, method: str, n_latent: int, seed: int) -> dict[str, Any]:
    """Scores of a method's latent space; a failure is a result too."""
    try:
        begin = time.process_time()
        latent = EMBEDDINGS[method](split, n_latent, seed)
        facts = {
            "cpu_seconds": time.process_time() - begin,
            "n_cells": split.cells.n_obs,
            "n_genes": split.cells.n_vars,
        }
        return facts | {"scores": scores(latent, of("PCA")(split, n_latent, seed), split)}
    except Exception:  # noqa: BLE001
        return {"error": traceback.format_exc()}


def scores(latent: NDArray[np.float64], before: NDArray[np.float64], split: Split) -> dict[str, float]:
    """Every score of scib-metrics, not rescaled, and their means: .4 for batches and .6 for labels in total."""
    import anndata as ad
    from scib_metrics.benchmark import Benchmarker

    cells = ad.AnnData(split.cells.X, obs=split.cells.obs.copy(), obsm={"latent": np.asarray(latent, np.float32)})
    cells.obsm["before"] = np.asarray(before, np.float32)
    for column in (split.batch_key, "labels"):
        cells.obs[column] = cells.obs[column].astype(str).astype("category")
    benchmark = Benchmarker(
        cells, split.batch_key, "labels", ["latent"], pre_integrated_embedding_obsm_key="before", progress_bar=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmark.benchmark()
    row = benchmark.get_results(min_max_scale=False).loc["latent"]
    return {name: float(value) for name, value in row.items()}


def report(path: Path) -> None:
    """Print a Markdown table of each data set, means over seeds."""
    show_facts(machine_facts(1))
    newest = {one["key"]: one for one in map(json.loads, path.read_text().splitlines())}
    good = [one for one in newest.values() if "error" not in one]
    for name in dict.fromkeys(one["data_set"] for one in good):
        print(_table(name, [one for one in good if one["data_set"] == name]), "\n")
    for one in newest.values():
        if "error" in one:
            print(f"failed: {one['key']}: {one['error'].strip().splitlines()[-1]}")


def _table(name: str, results: Sequence[dict[str, Any]]) -> str:
    columns = list(TOTALS) + [column for column in results[0]["scores"] if column not in TOTALS]
    lines = [
        f"{name}: {results[0]['n_cells']:,} cells, {results[0]['n_genes']:,} genes",
        "",
        f"| method | q | {' | '.join(columns)} | seconds |",
        "|---|---|" + "---|" * (len(columns) + 1),
    ]
    for method, q in dict.fromkeys((one["method"], one["n_latent"]) for one in results):
        own = [one for one in results if (one["method"], one["n_latent"]) == (method, q)]
        means = [f"{np.mean([one['scores'][column] for one in own]):.3f}" for column in columns]
        seconds = np.mean([one["cpu_seconds"] for one in own])
        lines.append(f"| {method} | {q} | {' | '.join(means)} | {seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
