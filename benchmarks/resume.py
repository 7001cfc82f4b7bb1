"""Run jobs in processes of their own, and keep each result at once, so that what was done is not done again."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: What says to libraries how many threads a process may have.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Job = dict[str, Any]


def run_missing(
    jobs: Sequence[Job], run: Callable[[Job], dict[str, Any]], path: Path, processes: int
) -> list[dict[str, Any]]:
    """Results of all jobs, each with its `job`, `seconds` and, if it failed, `error`; those in `path` (JSON lines) are taken as they are.

    Jobs are dictionaries of plain values, and their own names. With no processes nothing is run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {_key(result["job"]): result for result in _read(path)}
    missing = [job for job in jobs if _key(job) not in done] if processes else []
    print(f"{len(missing)} of {len(jobs)} fits to do", flush=True)
    os.environ |= dict.fromkeys(THREADS, "1")
    if not missing:
        return [done[_key(job)] for job in jobs if _key(job) in done]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool, path.open("a") as file:
        running = [pool.submit(_one, run, job) for job in missing]
        for i, future in enumerate(as_completed(running), 1):
            result = future.result()
            file.write(json.dumps(result) + "\n")
            file.flush()
            done[_key(result["job"])] = result
            outcome = result.get("error") or f"{result['seconds']:.1f} s"
            print(f"{i}/{len(missing)} {result['job']}: {outcome}", flush=True)
    return [done[_key(job)] for job in jobs if _key(job) in done]


def _one(run: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any]:
    """A failure is a result, too."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    begin = time.perf_counter()
    try:
        found = run(job)
    except Exception as error:  # noqa: BLE001
        found = {"error": f"{type(error).__name__}: {error}"}
    return {"job": job, "seconds": time.perf_counter() - begin, **found}


def _key(job: Job) -> str:
    return json.dumps(job, sort_keys=True)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
