"""Seconds of a training epoch, `CountVAE` against SCVI, and steps that were not finite; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from autoencoder_data import read
from autoencoder_stability import stability
from machine import machine_facts
from report import show_facts, write_json

#: The same architecture on both sides.
N_LATENT, N_HIDDEN, N_LAYERS = 10, 128, 1
DATA_SET = "pbmc3k"
#: Epochs that do not count: the first ones, and what is done once before and after.
FIRST = 2
METHODS = ("CountVAE", "SCVI")


@dataclass(frozen=True)
class Setting:
    """What one training is timed with."""

    likelihood: str
    batch_size: int
    threads: int


def main() -> None:
    """Time every setting, the two methods by turns, or count steps that were not finite."""
    args = parse()
    facts = machine_facts(max(args.threads))
    show_facts(facts)
    if args.stability:
        write_json(args.out / "stability.json", {"machine": facts, "runs": stability(args.data / f"{DATA_SET}.h5ad")})
        return
    runs = []
    for setting in (Setting(*one) for one in product(args.likelihoods, args.batch_sizes, args.threads)):
        for _ in range(args.repeats):
            for method in METHODS:
                runs.append(asdict(setting) | {"method": method} | in_fresh_process(method, setting, args))
        print(json.dumps(summarize([r for r in runs if asdict(setting).items() <= r.items()])), flush=True)
    show(runs)
    write_json(args.out / "speed.json", {"machine": facts, "runs": runs})


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {DATA_SET}.h5ad")
    parser.add_argument("--likelihoods", nargs="+", default=["nb", "poisson", "zinb"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--epochs", type=int, default=12, help=f"epochs, of which the first {FIRST} do not count")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stability", action="store_true", help="count steps that were not finite, and nothing else")
    parser.add_argument("--out", type=Path, default=Path("build/bench/autoencoders"), help="folder of results")
    return parser.parse_args()


def in_fresh_process(method: str, setting: Setting, args: argparse.Namespace) -> dict[str, float]:
    """Time a method in a process of its own, whose libraries start with so many threads."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(setting.threads))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(seconds_per_epoch, method, setting, args.data, args.epochs).result()


def seconds_per_epoch(method: str, setting: Setting, data: Path, epochs: int) -> dict[str, float]:
    """Seconds of an epoch after the first ones: the difference of two trainings over the difference of their epochs.

    So preparation, which is done once, counts on neither side, and everything that is done in each epoch does.
    """
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(setting.threads)
    train = {"CountVAE": _train_scpln, "SCVI": _train_scvi}[method]
    adata = read(DATA_SET, data)
    train(adata, setting, 1)  # whatever is compiled or cached in a process
    cost = []
    for n in (FIRST, epochs):
        wall, cpu = time.perf_counter(), time.process_time()
        train(adata, setting, n)
        cost.append((time.perf_counter() - wall, time.process_time() - cpu))
    (wall_first, cpu_first), (wall_all, cpu_all) = cost
    more = epochs - FIRST
    return {"wall": (wall_all - wall_first) / more, "cpu": (cpu_all - cpu_first) / more}


def _train_scpln(adata: Any, setting: Setting, epochs: int) -> None:
    import scpln

    scpln.model.setup_anndata(adata)
    model = scpln.model.CountVAE(
        adata, n_latent=N_LATENT, likelihood=setting.likelihood, n_hidden=N_HIDDEN, n_layers=N_LAYERS
    )
    options = {"early_stopping": False, "validation_size": 0.0, "start": "random", "n_threads": setting.threads}
    model.train(epochs, batch_size=setting.batch_size, progress=False, seed=0, **options)


def _train_scvi(adata: Any, setting: Setting, epochs: int) -> None:
    import scvi

    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(
        adata, n_latent=N_LATENT, gene_likelihood=setting.likelihood, n_hidden=N_HIDDEN, n_layers=N_LAYERS
    )
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    model.train(epochs, batch_size=setting.batch_size, train_size=1.0, accelerator="cpu", **quiet)


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over repeats of one setting, and SCVI's seconds over `CountVAE`'s."""
    row = {key: runs[0][key] for key in ("likelihood", "batch_size", "threads")}
    for clock in ("wall", "cpu"):
        middle = {m: median(r[clock] for r in runs if r["method"] == m) for m in METHODS}
        row |= {f"{m} {clock}": round(value, 4) for m, value in middle.items()}
        row[f"ratio {clock}"] = round(middle["SCVI"] / middle["CountVAE"], 2)
    return row


def show(runs: list[dict[str, Any]]) -> None:
    """Print the medians as a Markdown table."""
    settings = list(dict.fromkeys((r["likelihood"], r["batch_size"], r["threads"]) for r in runs))
    rows = [summarize([r for r in runs if (r["likelihood"], r["batch_size"], r["threads"]) == s]) for s in settings]
    print(f"Seconds of an epoch, {DATA_SET}, medians; ratio is SCVI's over CountVAE's\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
