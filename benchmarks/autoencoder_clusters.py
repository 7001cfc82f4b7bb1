"""Autoencoders, PLN-PCA, PCA and SCVI side by side: clusters and held-out bounds; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoencoder_data import DATA_SETS, split
from autoencoder_methods import METHODS
from autoencoder_report import report
from autoencoder_scores import agreement, score
from machine import machine_facts

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Job:
    """One fit: a method, a data set, and a seed of the split and of training."""

    data_set: str
    method: str
    seed: int

    @property
    def key(self) -> str:
        """Identity in the file of results."""
        return f"{self.data_set}/{self.method}/{self.seed}"


def main() -> None:
    """Run what the results lack, then report all of them."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report:
        execute(list(jobs(args)), args)
    report(args.out / "results.jsonl", machine_facts(args.jobs))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the data sets; those that it lacks are skipped")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each (default 2)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/autoencoders"), help="folder of results")
    parser.add_argument("--report", action="store_true", help="run nothing, report the results that are there")
    args = parser.parse_args()
    if args.data is None and not args.report:
        parser.error("--data is needed, unless with --report")
    return args


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """The fits asked for, all methods with one seed before the next seed."""
    for seed in args.seeds:
        for data_set in args.data_sets:
            if (args.data / f"{data_set}.h5ad").exists():
                yield from (Job(data_set, method, seed) for method in args.methods)


def execute(wanted: list[Job], args: argparse.Namespace) -> None:
    """Run the jobs whose results are not there, and append each to `results.jsonl`; a failed one is tried again."""
    path = args.out / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {one["key"] for one in map(json.loads, lines) if "error" not in one}
    missing = [job for job in wanted if job.key not in done]
    print(f"{len(missing)} of {len(wanted)} fits to do", flush=True)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=spawn) as pool, path.open("a") as file:
        running = [pool.submit(run, job, args.data, args.out / "latent") for job in missing]
        for i, future in enumerate(as_completed(running), 1):
            result = future.result()
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(f"{i}/{len(missing)} {result['key']}: {_outcome(result)}", flush=True)


def run(job: Job, data: Path, latents: Path) -> dict[str, Any]:
    """Do a job in a worker process, and keep its latent space as `.npy`; a failure is a result too."""
    import numpy as np
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    facts = {"key": job.key, **asdict(job)}
    try:
        cells = split(job.data_set, data, job.seed)
        fitted = METHODS[job.method](cells)
        latent = np.asarray(fitted.latent(cells.cells), dtype=np.float64)
        latents.mkdir(parents=True, exist_ok=True)
        np.save(latents / f"{job.key.replace('/', '-')}.npy", latent.astype(np.float32))
        facts |= {"n_cells": cells.cells.n_obs, "n_genes": cells.cells.n_vars, "n_labels": cells.n_labels}
        facts |= fitted.facts | score(latent, cells)
        if fitted.clusters is not None:
            facts["own"] = agreement(fitted.clusters(cells.cells), cells)
        if fitted.bounds is not None:
            facts["held_out"] = fitted.bounds(cells.test)
    except Exception:  # noqa: BLE001
        return facts | {"error": traceback.format_exc()}
    return facts


def _outcome(result: dict[str, Any]) -> str:
    if "error" in result:
        return result["error"]
    bound = result.get("held_out", {}).get("iw", float("nan"))
    return (
        f"{result['seconds']:.0f} s, ARI {result['leiden']['ari']:.3f} (Leiden) {result['kmeans']['ari']:.3f} (k-means), "
        f"held-out bound {bound:.2f}"
    )


if __name__ == "__main__":
    main()
