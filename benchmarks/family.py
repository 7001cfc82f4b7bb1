"""Networks, mixtures, discriminant analysis, zero inflation, series and paths of ranks beside the peer's; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from family_bound import Fit, Ranks, bound, bounds_of_ranks
from gene_space_sets import GeneSpaceSet
from machine import machine_facts

HERE = Path(__file__).parent
#: What is fitted to which sets: options of both sides. A penalty is of the sum over all samples; labels are columns of obs.
JOBS: list[tuple[str, dict[str, Any]]] = [
    *(("pln_trichoptera", {"kind": "network", "penalty": penalty}) for penalty in (1, 10)),
    *(("pln_barents", {"kind": "network", "penalty": penalty}) for penalty in (50, 200)),
    *((name, {"kind": "mixture", "n": 3}) for name in ("pln_trichoptera", "pln_barents", "pln_mollusk")),
    *((name, {"kind": "lda", "label": label}) for name, label in (("pln_mollusk", "site"), ("pln_oaks", "tree"))),
    *((name, {"kind": "zip"}) for name in ("pln_trichoptera", "pln_barents", "pln_mollusk")),
    *((name, {"kind": "ar"}) for name in ("pln_trichoptera", "pln_barents")),
    *((name, {"kind": "ranks", "ranks": [1, 2, 3, 4, 5, 6, 8, 10]}) for name in ("pln_trichoptera", "pln_mollusk")),
    ("pln_scRNA", {"kind": "ranks", "ranks": [2, 4, 6, 8, 10]}),
]


def main() -> None:
    """Fit every model on every set with both sides, one after the other, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with pln_*.h5ad; those that it lacks are skipped"
    )
    parser.add_argument("--kinds", nargs="+", choices=sorted({options["kind"] for _, options in JOBS}))
    parser.add_argument(
        "--peer-python", type=Path, help="interpreter of the peer's environment; without, it is skipped"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="fits of each side, by turns (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/family"), help="folder of results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "machine.json").write_text(json.dumps(machine_facts(args.threads)))
    print(
        "| set | model | method | bound, nats in all | processor seconds | of these to the peer's bound |\n|---|---|---|---|---|---|"
    )
    for name, options in JOBS:
        if (args.kinds and options["kind"] not in args.kinds) or not (args.data / f"{name}.h5ad").exists():
            continue
        data, options = _prepared(args.data / f"{name}.h5ad", options, args.out / f"{name}.npz")
        sides = [("scpln", posterior) for posterior in ("fullrank", "meanfield")[: 1 + (options["kind"] != "ar")]]
        sides += [("pyPLNmodels", "meanfield")] if args.peer_python is not None else []
        costs: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
        found, paths = {}, {}
        for _ in range(args.repeats):
            for side in sides:
                found[side], cost = _fit(args, name, options | {"posterior": side[1]}, side[0])
                costs[side].append(cost["cpu_seconds"])
                paths[side] = cost.get("path", [])
        what = " ".join(str(value) for key, value in options.items() if key != "groups")
        for side in sides:
            seconds = float(np.median(costs[side]))
            total = _judged(data, found[side])
            passed = []
            if isinstance(total, float) and options["kind"] != "mixture":  # whose last search is not all that it took
                passed = [at for at, value in paths[side] if value >= _judged(data, found[sides[-1]])]
            shown = (
                f"{total:,.2f}" if isinstance(total, float) else ", ".join(f"{each:,.1f}" for each in total.values())
            )
            reached = f"{passed[0]:.2f}" if passed else "–"
            print(f"| {name} | {what} | {' '.join(side)} | {shown} | {seconds:.2f} | {reached} |", flush=True)
            with (args.out / "results.jsonl").open("a") as file:
                row = {"set": name, "model": what, "method": side, "bound": total, "cpu_seconds": seconds}
                file.write(json.dumps(row) + "\n")


def _judged(data: GeneSpaceSet, fit: Fit | Ranks) -> float | dict[int, float]:
    """Bound, or those of all ranks."""
    if isinstance(fit, Ranks):
        return bounds_of_ranks(data.counts, data.offsets, fit)
    return bound(data.counts, data.offsets, fit)


def _prepared(path: Path, options: dict[str, Any], out: Path) -> tuple[GeneSpaceSet, dict[str, Any]]:
    """The set without samples that have no counts, written for both sides, and options with the samples' groups."""
    data = GeneSpaceSet.read(path)
    kept = data.counts.sum(1) > 0
    data = GeneSpaceSet(data.counts[kept], data.offsets[kept])
    data.save(out)
    if "label" not in options:
        return data, options
    labels = ad.read_h5ad(path).obs[options["label"]].astype(str).to_numpy()[kept]
    return data, options | {"groups": np.unique(labels, return_inverse=True)[1].tolist()}


def _fit(args: argparse.Namespace, name: str, options: dict[str, Any], side: str) -> tuple[Fit | Ranks, dict[str, Any]]:
    """A fit in a fresh process, and its cost."""
    out = args.out / "fit.npz"
    python = args.peer_python if side == "pyPLNmodels" else sys.executable
    script = HERE / ("fit_family_peer.py" if side == "pyPLNmodels" else "fit_family.py")
    command = [str(python), str(script), str(args.out / f"{name}.npz"), str(out), json.dumps(options)]
    done = subprocess.run([*command, str(args.threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    kind = Ranks if options["kind"] == "ranks" else Fit
    return kind.load(out), json.loads(out.with_suffix(".json").read_text())


if __name__ == "__main__":
    main()
