"""Bias of B and Σ in gene space by estimator, and recovery of σ where most counts are zero; see benchmarks/README.md."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from resume import Job, run_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Cells and genes of sets with correlated genes, and the correlation of neighbours in them; all variances are 1.
SIZES, CORRELATION = ((500, 2), (5000, 2), (500, 10), (5000, 10)), 0.8
#: Mean log-rate of genes, and the standard deviation between them: 60 % zeros.
LEVEL, SPREAD = -0.7, 0.5
#: Cells of sets of independent genes, each with an intercept of its own and σ = 1: from 64 to 98 % zeros.
MANY, LEVELS = 50_000, (-0.75, -1.5, -2.4, -3.2, -4.3)
#: Cells of sets of the last of these alone, of whose σ the others say little.
VAST = 500_000
METHODS = ("mean-field", "full-rank", "importance", "quadrature")
ERRORS = {
    "variance": "Σ_jj, relative",
    "covariance": "Σ_jk, slope − 1",
    "intercept": "intercepts",
    "effect": "effects, slope − 1",
}


def run(job: Job) -> dict[str, Any]:
    """Estimate from one simulated set, and say how far off each estimand is."""
    from scpln.inference import CountData
    from scpln.module.covariances import Diagonal, Full

    random = np.random.default_rng([job["seed"], job["n"], job["p"]])
    n, p = job["n"], job["p"]
    design = np.column_stack([np.ones(n), random.standard_normal(n)])
    if job["part"] == "sparse":
        coefficients, sigma = np.array(LEVELS[-p:])[:, None], np.eye(p)
        design = design[:, :1]
    else:
        truth = np.random.default_rng(7)
        coefficients = np.column_stack([LEVEL + SPREAD * truth.standard_normal(p), 0.5 * truth.standard_normal(p)])
        sigma = CORRELATION ** np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    log_rates = design @ coefficients.T + random.standard_normal((n, p)) @ np.linalg.cholesky(sigma).T
    counts = random.poisson(np.exp(log_rates))
    data = CountData(counts, np.zeros(n), design)
    result = _fit(job["method"], data, Diagonal(p) if job["part"] == "sparse" else Full(p), job["seed"])
    found, off = result.covariance.dense, ~np.eye(p, dtype=bool)
    facts: dict[str, Any] = {
        "zeros": (counts == 0).mean(0).tolist(),
        "sd": np.sqrt(np.diagonal(found)).tolist(),
        "variance": float(np.trace(found) / p - 1),
        "intercept": float((result.coefficients[:, 0] - coefficients[:, 0]).mean()),
        "converged": result.converged,
        "bound": float(result.elbo.mean()),
    }
    if job["part"] == "full":
        facts["covariance"] = float((found[off] @ sigma[off]) / np.square(sigma[off]).sum() - 1)
        effects, true = result.coefficients[:, 1], coefficients[:, 1]
        facts["effect"] = float(effects @ true / np.square(true).sum() - 1)
    return facts


def _fit(method: str, data: Any, covariance: Any, seed: int) -> Any:
    from scpln.inference.estimators import fit_importance, fit_quadrature
    from scpln.inference.genespace import fit_pln

    options: dict[str, Any] = {"prior_precision": 0.0, "n_threads": 1}
    if method == "importance":
        return fit_importance(data, covariance, seed=seed, **options)
    if method == "quadrature":
        return fit_quadrature(data, covariance, **options)
    return fit_pln(data, covariance, posterior="meanfield" if method == "mean-field" else "fullrank", **options)


def jobs(sets: int) -> list[Job]:
    """All fits, the small ones first."""
    full = [
        {"part": "full", "n": n, "p": p, "method": method, "seed": seed}
        for n, p in SIZES
        for seed in range(sets)
        for method in METHODS
        if method != "quadrature" or p == 2
    ]
    sparse = [
        {"part": "sparse", "n": n, "p": p, "method": method, "seed": seed}
        for n, p in ((MANY, len(LEVELS)), (VAST, 1))
        for seed in range(sets)
        for method in ("mean-field", "quadrature")
    ]
    return sorted(full + sparse, key=lambda job: (job["seed"] >= 2, job["n"] * job["p"]))


def report(results: Sequence[dict[str, Any]]) -> None:
    """Print the tables."""
    good = [result for result in results if "sd" in result]
    print("\nMean error over sets ± standard error\n")
    print("| cells × genes | estimand | " + " | ".join(METHODS) + " |\n|" + "---|" * (len(METHODS) + 2))
    for n, p in SIZES:
        for name, words in ERRORS.items():
            some = [r for r in good if r["job"]["part"] == "full" and (r["job"]["n"], r["job"]["p"]) == (n, p)]
            cells = [_cell([r[name] for r in some if r["job"]["method"] == method]) for method in METHODS]
            print(f"| {n:,} × {p} | {words} | " + " | ".join(cells) + " |")
    print("\nσ̂ / σ − 1 of single genes\n\n| cells | zeros | mean-field | quadrature |\n|---|---|---|---|")
    for n, j in (*((MANY, j) for j in range(len(LEVELS))), (VAST, 0)):
        sparse = [r for r in good if r["job"]["part"] == "sparse" and r["job"]["n"] == n]
        if sparse:
            zeros = np.mean([r["zeros"][j] for r in sparse])
            pair = ("mean-field", "quadrature")
            cells = [_cell([r["sd"][j] - 1 for r in sparse if r["job"]["method"] == m]) for m in pair]
            print(f"| {n:,} | {zeros:.1%} | " + " | ".join(cells) + " |")


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):+.3f} ± {error:.3f}"


def main() -> None:
    """Fit what the results lack, then print the tables of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10, help="simulated sets of each size (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (default %(default)s)")
    parser.add_argument("--report", action="store_true", help="run nothing, report the results that are there")
    parser.add_argument("--out", type=Path, default=Path("build/bench/estimators"), help="folder of results")
    args = parser.parse_args()
    report(run_missing(jobs(args.sets), run, args.out / "results.jsonl", 0 if args.report else args.jobs))


if __name__ == "__main__":
    main()
