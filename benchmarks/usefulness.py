"""What analysts do with latent states: neighbours, clusters, held-out counts, and what these cost; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoencoder_scores import agreement
from machine import machine_facts
from usefulness_data import DATA_SETS, Limits, read, thinned
from usefulness_methods import BOUNDED, METHODS
from usefulness_report import report
from usefulness_scores import held_out_bounds, predictive, space_scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autoencoder_data import Split

#: Fits to all cells, to four fifths of the cells, and to half of the counts.
PARTS = ("spaces", "cells", "counts")


@dataclass(frozen=True)
class Job:
    """One fit: a data set and its limits, a part, a method, its dimensions, and a seed of the split and of training."""

    data_set: str
    limits: Limits
    part: str
    method: str
    n_latent: int
    seed: int

    @property
    def key(self) -> str:
        """Identity in the file of results."""
        limits = f"{self.limits.n_cells}x{self.limits.n_genes}{'b' if self.limits.batches else ''}"
        return f"{self.data_set}/{limits}/{self.part}/{self.method}/{self.n_latent}/{self.seed}"


def main() -> None:
    """Run what the results lack, then report all of them."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report:
        execute(list(jobs(args)), args)
    report(args.out, machine_facts(1))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the data sets; those that it lacks are skipped")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--n-latent", nargs="+", type=int, default=[10, 20, 30, 50])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument(
        "--cells", type=int, default=Limits.n_cells, help="cells of a set, at most (default %(default)s)"
    )
    parser.add_argument("--genes", type=int, default=Limits.n_genes, help="genes, at most (default %(default)s)")
    parser.add_argument("--batches", action="store_true", help="tell models the batches, which PCA cannot use")
    parser.add_argument("--out", type=Path, default=Path("build/bench/usefulness"), help="folder of results")
    parser.add_argument("--report", action="store_true", help="run nothing, report the results that are there")
    parser.add_argument(
        "--quick", action="store_true", help="two sets of 300 cells and genes, q = 5, one seed, four methods"
    )
    args = parser.parse_args()
    if args.data is None and not args.report:
        parser.error("--data is needed, unless with --report")
    if args.quick:
        args.cells = args.genes = 300
        args.n_latent, args.seeds, args.data_sets = [5], [0], ["pbmc3k", "kang_muscat"]
        args.methods = ["PCA", "PLN-PCA, none", "PLN-PCA, learned", "PLN-PCA, mixture"]
    return args


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """The fits asked for, all methods with one seed before the next seed."""
    limits = Limits(args.cells, args.genes, args.batches)
    for seed in args.seeds:
        for n_latent in args.n_latent:
            for data_set in args.data_sets:
                if (args.data / DATA_SETS[data_set][0]).exists():
                    for method in args.methods:
                        parts = [part for part in args.parts if part == "spaces" or method in BOUNDED]
                        yield from (Job(data_set, limits, part, method, n_latent, seed) for part in parts)


def execute(wanted: list[Job], args: argparse.Namespace) -> None:
    """Do the jobs whose results are not there, and append each to `results.jsonl`; a failed one is tried again."""
    path = args.out / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {one["key"] for one in map(json.loads, lines) if "error" not in one}
    missing = [job for job in wanted if job.key not in done]
    print(f"{len(missing)} of {len(wanted)} fits to do", flush=True)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=warm_up) as pool, path.open("a") as file:
        for i, job in enumerate(missing, 1):
            result = pool.submit(run, job, args.data, args.out / "loadings").result()
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(f"{i}/{len(missing)} {job.key}: {_outcome(result)}", flush=True)


def warm_up() -> None:
    """Compile, so that the first fit is timed like the others."""
    import torch

    import scpln

    warnings.simplefilter("ignore")
    scpln.settings.verbosity = "error"
    torch.set_num_threads(1)
    adata = scpln.datasets.simulate(n_obs=60, n_vars=20, n_latent=2)
    scpln.model.setup_anndata(adata)
    for arguments in ({}, {"prior": "none"}, {"likelihood": "nb"}, {"n_components": 2}):
        model = scpln.model.PLNPCA(adata, n_latent=2, **arguments)
        model.train(max_epochs=15, n_threads=1, progress=False)
        model.get_latent_representation(space="expression")


def run(job: Job, data: Path, loadings: Path) -> dict[str, Any]:
    """Do a job in the worker process; a failure is a result too."""
    facts = {"key": job.key, **asdict(job)}
    try:
        split = read(job.data_set, data, job.limits, job.seed)
        facts |= {"n_cells": split.cells.n_obs, "n_genes": split.cells.n_vars, "n_labels": split.n_labels}
        return facts | PART[job.part](job, split, loadings)
    except Exception:  # noqa: BLE001
        return facts | {"error": traceback.format_exc()}


def _spaces(job: Job, split: Split, loadings: Path) -> dict[str, Any]:
    import numpy as np

    fitted = METHODS[job.method](split.cells, split, job.n_latent, job.seed)
    facts = dict(fitted.facts)
    facts["spaces"] = {name: space_scores(latent, split) for name, latent in fitted.spaces().items()}
    if fitted.clusters is not None:
        facts["own"] = agreement(fitted.clusters(), split)
    if "PLN" in job.method:
        loadings.mkdir(exist_ok=True)
        np.save(loadings / f"{job.key.replace('/', '-')}.npy", fitted.model.get_loadings().to_numpy())
    return facts


def _cells(job: Job, split: Split, _loadings: Path) -> dict[str, Any]:
    fitted = METHODS[job.method](split.train, split, job.n_latent, job.seed)
    return fitted.facts | {"held_out": held_out_bounds(fitted.model, split.test, job.seed)}


def _counts(job: Job, split: Split, _loadings: Path) -> dict[str, Any]:
    first, second = thinned(split.cells, job.seed)
    fitted = METHODS[job.method](first, split, job.n_latent, job.seed)
    return fitted.facts | {"predictive": predictive(fitted.model, first, second, job.seed)}


PART = {"spaces": _spaces, "cells": _cells, "counts": _counts}


def _outcome(result: dict[str, Any]) -> str:
    if "error" in result:
        return result["error"]
    parts = [f"{result['cpu_seconds']:.1f} s"]
    parts += [f"purity {one['purity']:.3f} {name}" for name, one in result.get("spaces", {}).items()]
    parts += [f"own ARI {result['own']['ari']:.3f}"] if "own" in result else []
    parts += [f"held-out bound {result['held_out']['iw']:.2f}"] if "held_out" in result else []
    parts += [f"predictive {result['predictive']:.2f}"] if "predictive" in result else []
    return ", ".join(parts)


if __name__ == "__main__":
    main()
