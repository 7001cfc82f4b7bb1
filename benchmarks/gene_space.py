"""The Poisson log-normal model in gene space, beside the peer's, on the sets of its literature; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from gene_space_sets import SETS, GeneSpaceSet, profiled_bound
from machine import machine_facts

#: Fits of scpln: covariance and posterior; and those of the peer, by the name of its class.
OURS = {"full rank": ("full", "fullrank"), "mean-field": ("full", "meanfield"), "diagonal": ("diagonal", "meanfield")}
PEERS = {"Pln": "mean-field", "PlnDiag": "diagonal"}
#: Most genes of a full-rank fit here: beyond, one takes hours.
MOST_GENES = 200
HERE = Path(__file__).parent


def main() -> None:
    """Fit every set with every method, one after the other, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with pln_*.h5ad; those that it lacks are skipped"
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument(
        "--peer-python", type=Path, help="interpreter of the peer's environment; without, it is skipped"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most-genes", type=int, default=MOST_GENES, help="of full-rank fits (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/gene_space"), help="folder of results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "machine.json").write_text(json.dumps(machine_facts(args.threads)))
    print("| set | method | bound, nats in all | seconds | processor seconds |\n|---|---|---|---|---|")
    for name in args.sets:
        if not (args.data / f"{name}.h5ad").exists():
            continue
        data = GeneSpaceSet.read(args.data / f"{name}.h5ad")
        data.save(args.out / f"{name}.npz")
        rows = []
        for method, (covariance, posterior) in OURS.items():
            if posterior == "meanfield" or data.counts.shape[1] <= args.most_genes:
                rows.append((f"scpln, {method}", *_ours(args.out / f"{name}.npz", covariance, posterior, args.threads)))
        if args.peer_python is not None:
            rows += [(f"pyPLNmodels {kind}", *_peer(args, name, kind)) for kind in PEERS]
        for method, bound, cost in rows:
            print(
                f"| {name} | {method} | {bound:,.3f} | {cost['seconds']:.2f} | {cost['cpu_seconds']:.2f} |", flush=True
            )
            with (args.out / "results.jsonl").open("a") as file:
                file.write(json.dumps({"set": name, "method": method, "bound": bound, **cost}) + "\n")


def _ours(path: Path, covariance: str, posterior: str, threads: int) -> tuple[float, dict[str, float]]:
    """Bound and cost of a fit in a fresh process."""
    command = [sys.executable, __file__.replace("gene_space.py", "fit_gene_space.py"), str(path)]
    done = subprocess.run([*command, covariance, posterior, str(threads)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found.pop("bound"), found


def _peer(args: argparse.Namespace, name: str, kind: str) -> tuple[float, dict[str, float]]:
    """The same of the peer, its bound by our own function of its posteriors, at its best coefficients and covariance."""
    out = args.out / f"{name}_{kind}.npz"
    command = [
        str(args.peer_python),
        str(HERE / "fit_gene_space_peer.py"),
        str(args.out / f"{name}.npz"),
        str(out),
        kind,
    ]
    subprocess.run([*command, str(args.threads)], check=True, capture_output=True, text=True)
    with np.load(out) as found:
        bound = profiled_bound(
            GeneSpaceSet.load(args.out / f"{name}.npz"),
            found["mean"].astype(float),
            found["variance"].astype(float),
            diagonal=PEERS[kind] == "diagonal",
        )
    return bound, json.loads(out.with_suffix(".json").read_text())


if __name__ == "__main__":
    main()
