"""Every seed ends near the best bound known: the end bound of each seed against benchmarks/best_known.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from data import CountSet
from fits import PEER, POSTERIORS, Fit, Runner
from report import show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

BEST_KNOWN = Path(__file__).with_name("best_known.json")
NEAR = 0.1  # nats per cell


def compare_seeds(
    runner: Runner,
    sets: dict[str, Path],
    n_seeds: int,
    *,
    max_iter: int | None = None,
    tol: float | None = None,
    update: bool = False,
) -> dict[str, Any]:
    """Fit every set and posterior from `n_seeds` seeds; with `update`, keep a bound that beats the best known."""
    fits: list[Fit] = []
    for name, path in sets.items():
        for seed in range(n_seeds):
            fits += [runner.run(method, name, path, seed=seed, max_iter=max_iter, tol=tol) for method in POSTERIORS]
        print(f"{name}: done", flush=True)
    best = read_best(sets)
    for fit in fits if update else ():
        budget = ", ".join(f"{key} {value:g}" for key, value in (("max_iter", max_iter), ("tol", tol)) if value)
        record(best, fit, budget)
    if update:
        BEST_KNOWN.write_text(json.dumps(best, indent=1, sort_keys=True) + "\n")
    return {"fits": [asdict(f) for f in fits], "verdicts": judge(fits, best, sets)}


def read_best(sets: dict[str, Path]) -> dict[str, Any]:
    """Best known bounds; those of a data set with other numbers than today's are dropped, and said so."""
    best = json.loads(BEST_KNOWN.read_text()) if BEST_KNOWN.exists() else {}
    for name, path in sets.items():
        fingerprint = CountSet.load(path).fingerprint
        if best.get(name, {}).get("fingerprint", fingerprint) != fingerprint:
            print(f"{name}: its numbers are not those of {BEST_KNOWN.name}; the bound recorded there is ignored.")
            del best[name]
        best.setdefault(name, {"fingerprint": fingerprint})
    return best


def record(best: dict[str, Any], fit: Fit, budget: str = "") -> None:
    """Keep `fit` if it beats what is known for its set and posterior; the peer's posterior is mean-field."""
    posterior = "meanfield" if fit.method == PEER else fit.method
    known = best[fit.set_name].get(posterior)
    if known is None or fit.bound > known["bound"] + 1e-5:
        source = PEER if fit.method == PEER else f"scpln {fit.method}"
        by = f"{source}, seed {fit.seed}, {fit.n_iter} iterations" + (f", {budget}" if budget else "")
        best[fit.set_name][posterior] = {"bound": round(fit.bound, 5), "by": by}


def judge(fits: Sequence[Fit], best: dict[str, Any], sets: dict[str, Path]) -> list[dict[str, Any]]:
    """Compare the lowest seed with the best bound known; print and return a verdict per set and posterior."""
    verdicts = []
    for name in sets:
        for method in POSTERIORS:
            of = [f for f in fits if (f.set_name, f.method) == (name, method)]
            bounds = [f.bound for f in of]
            top = max([*bounds, best[name].get(method, {}).get("bound", -float("inf"))])
            verdicts.append(
                {
                    "set": name,
                    "posterior": method,
                    "seeds": len(of),
                    "best_known": top,
                    "lowest": min(bounds),
                    "median": median(bounds),
                    "highest": max(bounds),
                    "furthest_below": top - min(bounds),
                    "most_iterations": max(f.n_iter for f in of),
                    "most_seconds": max(f.seconds for f in of),
                    "all_converged": all(f.converged for f in of),
                    "met": top - min(bounds) <= NEAR,
                }
            )
    columns = (
        "set",
        "posterior",
        "seeds",
        "best known",
        "lowest",
        "median",
        "highest",
        "gap",
        "iter",
        "s",
        "conv",
        "met",
    )
    rows = [[f"{x:.3f}" if isinstance(x, float) else x for x in v.values()] for v in verdicts]
    show_table(f"End bound per cell, every seed against the best bound known (target: within {NEAR})", columns, rows)
    return verdicts
