"""Bounds of gut studies by PLNTree and by plntree 0.1.0, in one run with one thread; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import machine_facts
from resume import run_missing
from tree_data import CASES, parts, read_study

if TYPE_CHECKING:
    import pandas as pd


def timed(run: Any) -> tuple[Any, dict[str, float]]:
    """What a function returns, and seconds of the clock and of the processor."""
    start, used = time.perf_counter(), time.process_time()
    found = run()
    return found, {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used}


def compare(job: dict[str, Any]) -> dict[str, Any]:
    """Both models of three quarters of a study, and bounds of these and of the other samples."""
    adata = read_study(Path(job["folder"]), job["study"], job["rank"])
    train, test = parts(adata.n_obs)
    found: dict[str, Any] = {"shape": list(adata.shape), "train": len(train)}
    found["ours"] = ours(adata[train].copy(), adata[test].copy(), job["draws"], job["tol"])
    if job["minutes"]:
        found["peer"] = peer(adata[train].to_df(), adata[test].to_df(), job["draws"], job["minutes"], job["epochs"])
    return found


def ours(train: Any, test: Any, draws: int, tol: float | None) -> dict[str, Any]:
    """PLNTree with its defaults, but for a tolerance."""
    import scpln

    scpln.model.setup_anndata(train, size_factor_key="one")
    model = scpln.model.PLNTree(train)
    _, result = timed(lambda: model.train(progress=False, n_threads=1, **({} if tol is None else {"tol": tol})))
    result |= {"iterations": len(model.history["elbo"]), "reason": model.stop_reason}
    result |= {"parameters": int(model.training_["n_parameters"])}
    for name, table in (("train", None), ("test", test)):
        result[f"elbo_{name}"] = float(model.get_elbo(table))
        result[f"iw_{name}"] = float(model.get_iw_bound(table, n_samples=draws))
    return result


def peer(train: pd.DataFrame, test: pd.DataFrame, draws: int, minutes: float, epochs: int) -> dict[str, Any]:
    """plntree with its defaults, until its own rule, its 10,000 epochs or the clock stops it."""
    from tree_peer import Peer, TimedPLNTree

    model = TimedPLNTree(train, seed=0)
    steps, result = timed(lambda: model.fit_within(60 * minutes, epochs))
    per_epoch = int(np.ceil(len(train) / 512))
    result |= {"epochs": steps / per_epoch, "parameters": sum(each.numel() for each in model.parameters())}
    for mode, by_batch in (("", False), ("_by_batch", True)):
        judge = Peer(model, by_batch)
        for name, table in (("train", train), ("test", test)):
            iw, elbo = judge.iw_bound(table, draws)
            result |= {f"elbo_{name}{mode}": float(elbo.mean()), f"iw_{name}{mode}": float(iw.mean())}
    return result


def report(results: list[dict[str, Any]]) -> None:
    """A table of what there is."""
    print("| study | samples × leaves | | epochs | processor, s | ELBO | IW | ELBO, held out | IW, held out |")
    print("|---|---|---|---|---|---|---|---|---|")
    for found in results:
        if "error" in found:
            print(found["job"], found["error"])
            continue
        n, p = found["shape"]
        for name, mode in (("ours", ""), ("peer", ""), ("peer", "_by_batch")):
            if name not in found:
                continue
            one = found[name]
            bounds = " | ".join(f"{one[key + mode]:.1f}" for key in ("elbo_train", "iw_train", "elbo_test", "iw_test"))
            head = f"{found['job']['study']}, {found['job']['rank']} | {n} × {p}"
            count = one.get("epochs", one.get("iterations"))
            print(f"| {head} | {name}{mode} | {count:.0f} | {one['cpu_seconds']:.0f} | {bounds} |")


def main() -> None:
    """Run what is missing, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="plntree/data/cMD of the unpacked wheel of plntree 0.1.0")
    parser.add_argument("out", type=Path, help="folder of results")
    parser.add_argument("--study", nargs="+", default=list(CASES))
    parser.add_argument("--rank", default="genus")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="of the clock, for each training of the peer; 0 for none"
    )
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--tol", type=float, help="of PLNTree, if not its default")
    parser.add_argument("--draws", type=int, default=500, help="importance weights of each sample")
    parser.add_argument("--report", action="store_true", help="only print what there is")
    args = parser.parse_args()
    common = {"folder": str(args.folder), "rank": args.rank}
    common |= {"minutes": args.minutes, "epochs": args.epochs, "draws": args.draws, "tol": args.tol}
    print(machine_facts(1))
    report(
        run_missing(
            [{"study": study, **common} for study in args.study],
            compare,
            args.out / "bounds.jsonl",
            0 if args.report else 1,
        )
    )


if __name__ == "__main__":
    main()
