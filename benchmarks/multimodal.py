"""Joint PLN-PCA of RNA and surface proteins against one modality, PCA and MOFA+; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine_facts
from multimodal_methods import IMPUTING, METHODS, draw
from multimodal_report import draw_figure, report
from multimodal_scores import cluster_scores, imputation_scores, neighbour_scores

PARTS = ("clusters", "imputation")


@dataclass(frozen=True)
class Job:
    """One fit: a method, the part it is for, and a seed of the cells and of training."""

    part: str
    method: str
    seed: int

    @property
    def key(self) -> str:
        """Identity in the file of results."""
        return f"{self.part}/{self.method}/{self.seed}"

    def latent_file(self, folder: Path) -> Path:
        """Where the latent space is kept."""
        return folder / "latent" / f"{re.sub('[^A-Za-z0-9]+', '-', self.key)}.npy"


def main() -> None:
    """Run what the results lack, then report all of them."""
    args = parse()
    (args.out / "latent").mkdir(parents=True, exist_ok=True)
    if not args.report:
        execute(args)
    report(args.out / "results.jsonl", machine_facts(1))
    if args.figure:
        jobs = {title: Job("clusters", method, args.seeds[0]) for title, method in FIGURE.items()}
        spaces = {title: np.load(job.latent_file(args.out)) for title, job in jobs.items()}
        draw_figure(args.figure, draw(args.data, args.seeds[0]), spaces)


#: Title of a column of the figure, and the method whose latent space it shows.
FIGURE = {"RNA alone": "RNA: PLN-PCA, Poisson", "RNA and proteins": "both: PLN-PCA, Poisson + NB"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with cbmc_citeseq.h5mu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="each draws other cells (default 0 1)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/multimodal"), help="folder of results")
    parser.add_argument("--report", action="store_true", help="run nothing, report the results that are there")
    parser.add_argument("--figure", type=Path, help="draw latent spaces of the first seed to this file")
    args = parser.parse_args()
    if args.data is None and (args.figure or not args.report):
        parser.error("--data is needed, unless with --report")
    return args


def execute(args: argparse.Namespace) -> None:
    """Run the jobs whose results are not there, each in a process of its own; a failed one is tried again."""
    path = args.out / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {one["key"] for one in map(json.loads, lines) if "error" not in one}
    wanted = [Job(part, method, seed) for method, seed, part in product(args.methods, args.seeds, args.parts)]
    jobs = [job for job in wanted if job.key not in done and (job.part == "clusters" or job.method in IMPUTING)]
    print(f"{len(jobs)} fits to do", flush=True)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool, path.open("a") as file:
        for job in jobs:
            result = pool.submit(run, job, args.data, args.out).result()
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(f"{job.key}: {result.get('error') or f'''{result['cpu_seconds']:.0f} s'''}", flush=True)


def run(job: Job, data: Path, out: Path) -> dict[str, Any]:
    """Do a job in a worker process, and keep its latent space; a failure is a result too."""
    import torch

    import scpln

    warnings.simplefilter("ignore")
    scpln.settings.verbosity = "warning"
    torch.set_num_threads(1)
    facts = {"key": job.key, **asdict(job)}
    try:
        cells = draw(data, job.seed)
        facts |= {"n_cells": cells.cells.n_obs, "n_genes": cells.cells.n_vars, "n_labels": cells.n_labels}
        everything = np.ones(cells.cells.n_obs, dtype=bool)
        begin = time.process_time()
        fitted = METHODS[job.method](cells, everything if job.part == "clusters" else ~cells.held_out)
        facts["cpu_seconds"] = time.process_time() - begin
        np.save(job.latent_file(out), fitted.latent.astype(np.float32))
        if job.part == "clusters":
            return facts | cluster_scores(fitted, cells)
        facts |= neighbour_scores(fitted.latent, cells, cells.held_out)
        return facts | {"imputation": imputation_scores(fitted, cells)}
    except Exception:  # noqa: BLE001
        return facts | {"error": traceback.format_exc()}


if __name__ == "__main__":
    main()
