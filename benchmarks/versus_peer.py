"""Side by side with the peer: seconds, memory, final bound, and seconds to pass the peer's final bound."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

from fits import PEER, POSTERIORS, Fit, Runner
from report import show_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FASTER = 50.0
LEANER = 10.0


@dataclass(frozen=True)
class Passing:
    """A run of scpln that was stopped after `n_iter` iterations, with the peer's final bound passed or (None) never.

    `seconds` is the whole run; `history_seconds` of it had gone when its own history passed the bound.
    """

    set_name: str
    method: str
    seed: int
    n_iter: int | None
    seconds: float | None
    cpu_seconds: float | None
    history_seconds: float | None
    bound: float | None

    @classmethod
    def of(cls, run: Fit, bound: float) -> Passing:
        """Describe `run`, which passed `bound` (or came as near as the judge's last digits)."""
        at = (run.iterations_to(bound) or run.n_iter) - 1
        spent = run.history["seconds"][at]
        return cls(run.set_name, run.method, run.seed, run.n_iter, run.seconds, run.cpu_seconds, spent, run.bound)


def compare(runner: Runner, sets: dict[str, Path], repeats: int) -> dict[str, Any]:
    """Fit every set with every method, interleaved, `repeats` times (seed 0, 1, …); print and return what was found."""
    methods = [*POSTERIORS] if runner.peer_python is None else [PEER, *POSTERIORS]
    fits: list[Fit] = []
    passings: list[Passing] = []
    for seed in range(repeats):
        for name, path in sets.items():
            by_method = {method: runner.run(method, name, path, seed=seed) for method in methods}
            fits += by_method.values()
            if PEER in by_method:
                peer = by_method[PEER].bound
                passings += [pass_bound(runner, by_method[method], path, peer) for method in POSTERIORS]
            print(f"{name}, repeat {seed + 1} of {repeats}: done", flush=True)
    show_fits(fits, sets)
    verdicts = [] if runner.peer_python is None else judge(fits, passings, sets)
    return {"fits": [asdict(f) for f in fits], "passings": [asdict(p) for p in passings], "verdicts": verdicts}


def pass_bound(runner: Runner, full_run: Fit, path: Path, bound: float) -> Passing:
    """Run afresh with as few iterations as the history asks for, and more where the judge is not content with them."""
    name, method, seed = full_run.set_name, full_run.method, full_run.seed
    n_iter = full_run.iterations_to(bound) or full_run.n_iter
    while n_iter < full_run.n_iter:
        stopped = runner.run(method, name, path, seed=seed, max_iter=n_iter)
        if stopped.bound >= bound:
            return Passing.of(stopped, bound)
        n_iter = ceil(1.2 * n_iter)
    if full_run.bound >= bound:
        return Passing.of(full_run, bound)
    return Passing(name, method, seed, None, None, None, None, None)


def show_fits(fits: Sequence[Fit], sets: dict[str, Path]) -> None:
    """Print medians over the repeats."""
    rows = []
    for name in sets:
        for method in dict.fromkeys(f.method for f in fits):
            of = [f for f in fits if (f.set_name, f.method) == (name, method)]
            middle = {
                key: float(median(getattr(f, key) for f in of))
                for key in (
                    "seconds",
                    "cpu_seconds",
                    "first_call_seconds",
                    "peak_above_data_mb",
                    "bound",
                    "own_bound",
                    "n_iter",
                )
            }
            rows.append(
                [
                    name,
                    method,
                    f"{middle['seconds']:.2f}",
                    f"{middle['cpu_seconds']:.2f}",
                    f"{middle['first_call_seconds']:.1f}",
                    f"{middle['peak_above_data_mb']:.0f}",
                    f"{middle['n_iter']:.0f}",
                    f"{middle['bound']:.3f}",
                    f"{middle['own_bound']:.3f}",
                ]
            )
    columns = (
        "set",
        "method",
        "seconds",
        "cpu s",
        "first call",
        "MB above data",
        "iterations",
        "bound/cell",
        "it claims",
    )
    show_table("PLN-PCA, q=10, medians; first call: tiny data, with compilation, not in seconds", columns, rows)


def judge(fits: Sequence[Fit], passings: Sequence[Passing], sets: dict[str, Path]) -> list[dict[str, Any]]:
    """Compare with the peer by medians of paired repeats; print and return a verdict per set and posterior."""
    verdicts = []
    for name in sets:
        peer = [f for f in fits if (f.set_name, f.method) == (name, PEER)]
        for method in POSTERIORS:
            own = [f for f in fits if (f.set_name, f.method) == (name, method)]
            passed = [p for p in passings if (p.set_name, p.method) == (name, method)]
            reached = all(p.seconds is not None for p in passed)
            pairs = list(zip(peer, passed, strict=True))
            faster = median(p.seconds / s.seconds for p, s in pairs) if reached else None
            less_cpu = median(p.cpu_seconds / s.cpu_seconds for p, s in pairs) if reached else None
            leaner = median(
                p.peak_above_data_mb / max(f.peak_above_data_mb, 0.1) for p, f in zip(peer, own, strict=True)
            )
            verdicts.append(
                {
                    "set": name,
                    "posterior": method,
                    "peer_seconds": median(p.seconds for p in peer),
                    "seconds_to_peer_bound": median(s.seconds for s in passed) if reached else None,
                    "history_seconds_to_peer_bound": median(s.history_seconds for s in passed) if reached else None,
                    "iterations_to_peer_bound": median(s.n_iter for s in passed) if reached else None,
                    "times_faster": faster,
                    "times_less_cpu": less_cpu,
                    "times_leaner": leaner,
                    "bound_above_peer": min(f.bound for f in own) - max(p.bound for p in peer),
                    "met": bool(
                        reached
                        and faster >= FASTER
                        and leaner >= LEANER
                        and min(f.bound for f in own) >= max(p.bound for p in peer)
                    ),
                }
            )
    title = (
        f"To the peer's final bound (targets: {FASTER:.0f}x faster, {LEANER:.0f}x less memory, "
        "lowest end bound not below the peer's highest)"
    )
    columns = (
        "set",
        "posterior",
        "peer s",
        "s to it",
        "in history",
        "iterations",
        "x faster",
        "x less cpu",
        "x leaner",
        "bound above",
        "met",
    )
    show_table(title, columns, [list(v.values()) for v in verdicts])
    return verdicts
