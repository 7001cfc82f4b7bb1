"""Posteriors side by side: bounds at the same B and C, and bias of B and C; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from machine import machine_facts
from posterior_fits import EXACT, MEAN_FIELDS, METHODS, Job, run
from posterior_jobs import BIAS_METHODS, PARTS, jobs
from posterior_regimes import REAL, REGIMES
from posterior_report import report


def main() -> None:
    """Run what the results lack, then report all of them."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report:
        execute(list(jobs(args)), args)
    report(args.out, machine_facts(args.jobs))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the real data sets; without it they are skipped")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--regimes", nargs="+", choices=[*REGIMES, *REAL], default=[*REGIMES, *REAL])
    parser.add_argument(
        "--methods", nargs="+", choices=[*METHODS, *MEAN_FIELDS[1:], EXACT], help="only these posteriors"
    )
    parser.add_argument("--bias-methods", nargs="+", default=list(BIAS_METHODS), help="posteriors in the bias part")
    parser.add_argument("--data-sets", type=int, default=20, help="data sets of each regime for bias (default 20)")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each (default 2)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/posteriors"), help="folder of results")
    parser.add_argument("--report", action="store_true", help="run nothing, report the results that are there")
    parser.add_argument("--quick", action="store_true", help="one small regime, two data sets")
    args = parser.parse_args()
    if args.quick:
        args.regimes, args.data_sets, args.parts = ["p20 q5 90%"], 2, ["gap", "bias"]
    return args


def execute(wanted: list[Job], args: argparse.Namespace) -> None:
    """Run the jobs whose results are not there, several at a time, and append each result to `results.jsonl`."""
    path = args.out / "results.jsonl"
    done = {json.loads(line)["key"] for line in path.read_text().splitlines()} if path.exists() else set()
    missing = list({job.key: job for job in wanted if job.key not in done}.values())
    print(f"{len(missing)} of {len(wanted)} fits to do", flush=True)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=spawn) as pool, path.open("a") as file:
        running = [pool.submit(run, job, args.out / "fits", args.data) for job in missing]
        for i, future in enumerate(as_completed(running), 1):
            result = future.result()
            file.write(json.dumps(result) + "\n")
            file.flush()
            outcome = result.get("error") or f"{result['seconds']:.0f} s"
            print(f"{i}/{len(missing)} {result['part']} {result['regime']}, {result['method']}: {outcome}", flush=True)


if __name__ == "__main__":
    main()
