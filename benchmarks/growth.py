"""How time and memory of `PLNPCA.train` grow with the number of cells, in memory and from disk; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from data import simulate_blocks
from machine import machine_facts
from report import show_facts, show_table, write_json

N_GENES = 2000
SIZES = (2_000, 20_000, 200_000)
SECONDS_AT_200K = 120.0
PEAK_MB_AT_200K = 3000.0
PLACES = ("memory", "disk")


def write_h5ad(path: Path, n_cells: int) -> None:
    """Simulate counts with about 5 % non-zeros and append them to an `.h5ad` block by block."""
    import anndata as ad
    import h5py
    import pandas as pd

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    blocks = simulate_blocks(n_cells, N_GENES, log_mean=-3.85, log_sd=1.0, loading_sd=0.3, seed=3)
    first = next(blocks)
    ad.AnnData(first, var=pd.DataFrame(index=[f"gene{j}" for j in range(N_GENES)])).write_h5ad(unfinished)
    with h5py.File(unfinished, "r+") as f:
        counts = ad.io.sparse_dataset(f["X"])
        for block in blocks:
            counts.append(block)
        del f["obs"]
        ad.io.write_elem(f, "obs", pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)]))
    unfinished.replace(path)


def run_one(path: Path, place: str, threads: int) -> dict[str, Any]:
    """Train on the file in a fresh process."""
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(limits, str(threads))
    command = [sys.executable, str(Path(__file__).with_name("fit_growth.py")), str(path), place, str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-3000:]}"
        raise RuntimeError(msg)
    return json.loads(done.stdout.splitlines()[-1])


def judge(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say for each place whether time is linear in n, and 200k cells within their time and memory."""
    verdicts = []
    for place in PLACES:
        of = {r["n_cells"]: r for r in runs if r["place"] == place}
        small, large = min(of), max(of)
        slope = (
            float(np.log(of[large]["seconds"] / of[small]["seconds"]) / np.log(large / small))
            if large > small
            else None
        )
        top = of.get(max(SIZES))
        verdicts.append(
            {
                "place": place,
                "exponent": slope,
                "seconds_at_200k": top and top["seconds"],
                "peak_mb_at_200k": top and top["peak_mb"],
                "linear": None if slope is None else slope <= 1.1,
                "within_time": top and top["seconds"] <= SECONDS_AT_200K,
                "within_memory": top and top["peak_mb"] <= PEAK_MB_AT_200K,
            }
        )
    columns = ("from", "exponent of n", "s at 200k", "peak MB at 200k", "linear", "<= 2 min", "<= 3 GB")
    show_table("Targets", columns, [list(v.values()) for v in verdicts])
    return verdicts


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of cells")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES), help="where the counts are")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--cache", type=Path, help="folder of the simulated files (default OUT/data)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of results")
    parser.add_argument("--quick", action="store_true", help="without the largest size")
    args = parser.parse_args()
    sizes = [n for n in args.sizes if not args.quick or n <= 20_000]
    facts = machine_facts(args.threads)
    show_facts(facts)

    runs = []
    for n_cells in sizes:
        path = (args.cache or args.out / "data") / f"growth_{n_cells}x{N_GENES}.h5ad"
        if not path.exists():
            write_h5ad(path, n_cells)
        for place in args.places:
            runs.append({"place": place, "n_cells": n_cells, **run_one(path, place, args.threads)})
            print(f"{n_cells} cells from {place}: done", flush=True)
    rows = [
        [
            r["place"],
            f"{r['n_cells']:,}",
            f"{100 * r['nonzero']:.1f} %",
            f"{r['seconds']:.1f}",
            f"{r['cpu_seconds']:.1f}",
            f"{1e6 * r['seconds'] / r['n_cells']:.0f}",
            r["n_iter"],
            f"{1e6 * r['seconds'] / r['n_cells'] / r['n_iter']:.1f}",
            f"{r['peak_above_data_mb']:.0f}",
            f"{r['peak_mb']:.0f}",
            f"{r['bound']:.3f}",
        ]
        for r in runs
    ]
    columns = (
        "from",
        "cells",
        "non-zero",
        "s",
        "cpu s",
        "µs/cell",
        "iter",
        "µs/cell/iter",
        "MB above",
        "peak MB",
        "bound/cell",
    )
    show_table(f"PLNPCA.train with its defaults, {N_GENES} genes, q=10", columns, rows)
    write_json(args.out / "growth.json", {"machine": facts, "runs": runs, "verdicts": judge(runs)})


if __name__ == "__main__":
    main()
