"""How estimates of B and Σ are biased as cells, genes and dimensions grow, and by which posterior; see benchmarks/README.md."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from consistency_methods import LARGE, METHODS, Truth, fit
from consistency_report import report
from resume import Job, run_missing

#: Cells, genes, dimensions and mean log-rate of the setting that is varied, one thing at a time; log-rates are −1.6 at 80 % zeros, .8 at 25 %.
CENTRE: Job = {"n": 2000, "p": 50, "q": 5, "level": -1.8}
VARIED: dict[str, tuple[float, ...]] = {
    "n": (500, 2000, 10_000, 50_000),
    "p": (50, 100, 200),
    "q": (1, 2, 5, 10, 20),
    "level": (-3.0, -1.8, -0.5, 0.8),
}
#: Correlation of neighbouring genes in the matrix whose leading eigenvectors Σ has, as published.
CORRELATION = 0.5


def truth(job: Job) -> Truth:
    """B and C of a setting; those of fewer genes are not those of more."""
    random = np.random.default_rng(5)
    p, q = job["p"], job["q"]
    coefficients = np.column_stack([job["level"] + random.normal(0, 0.5, p), random.normal(0, 0.5, p)])
    distance = np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    values, vectors = np.linalg.eigh(CORRELATION**distance)
    return Truth(coefficients, vectors[:, -q:] * np.sqrt(values[-q:]))


def run(job: Job) -> dict[str, Any]:
    """Estimate from one simulated set, and say how far off each estimand is."""
    true = truth(job)
    counts, design = true.draw(job["n"], job["seed"])
    b, sigma, facts = fit(job["method"], counts, design, job["q"])
    expected = true.covariance
    off = ~np.eye(job["p"], dtype=bool)
    return {
        **facts,
        "zeros": float((counts == 0).mean()),
        "intercept": float((b[:, 0] - true.coefficients[:, 0]).mean()),
        "effect": float(b[:, 1] @ true.coefficients[:, 1] / np.square(true.coefficients[:, 1]).sum() - 1),
        "variance": float(np.trace(sigma) / np.trace(expected) - 1),
        "covariance": float((sigma[off] @ expected[off]) / np.square(expected[off]).sum() - 1),
        "distance": float(np.linalg.norm(sigma - expected) / np.linalg.norm(expected)),
    }


def settings() -> list[Job]:
    """The centre, and what differs from it in one thing."""
    found = [CENTRE | {name: value} for name, values in VARIED.items() for value in values]
    return [job for i, job in enumerate(found) if job not in found[:i]]


def main() -> None:
    """Fit what the results lack, then print the tables of all and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=5, help="simulated sets of each setting (default %(default)s)")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (default %(default)s)")
    parser.add_argument("--report", action="store_true", help="run nothing, report the results that are there")
    parser.add_argument("--out", type=Path, default=Path("build/bench/consistency"), help="folder of results")
    args = parser.parse_args()
    jobs = [
        {**setting, "method": method, "seed": seed}
        for seed in range(args.sets)
        for setting in sorted(settings(), key=lambda job: job["n"] * job["p"])
        for method in args.methods
        if METHODS[method].takes(setting) and (setting["n"] < LARGE or seed < 2)
    ]
    path = args.out / "results.jsonl"
    results = run_missing(jobs, run, path, 0 if args.report else args.jobs)
    report(results, args.out, CENTRE, VARIED)


if __name__ == "__main__":
    main()
