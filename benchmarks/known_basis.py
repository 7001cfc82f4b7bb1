"""What known eigenvectors of Σ are worth: the published simulation, with them and without; see benchmarks/README.md."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from resume import run_missing

if TYPE_CHECKING:
    from resume import Job

#: Cells, genes, correlation of neighbouring genes, and the rank of Σ in the second scenario.
N, P, CORRELATION, TRUE_RANK = 5000, 50, 0.8, 12
#: Directions that are given, by scenario; None is a free Σ.
DIRECTIONS: dict[str, tuple[int | None, ...]] = {
    "full rank": (50, 20, 10, 5, None),
    "rank 12": (50, 20, 12, 10, 5, None),
}


def truth(scenario: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B (p, 2), all eigenvectors of Σ as columns, and its eigenvalues, the largest first."""
    random = np.random.default_rng(12)
    coefficients = np.column_stack([random.uniform(0, 2, P), random.normal(0, 0.5, P)])
    distance = np.abs(np.subtract.outer(np.arange(P), np.arange(P)))
    values, vectors = np.linalg.eigh(CORRELATION**distance)
    values, vectors = values[::-1].copy(), vectors[:, ::-1]
    if scenario == "rank 12":
        values[TRUE_RANK:] = 0
    return coefficients, vectors, values


def run(job: Job) -> dict[str, Any]:
    """Fit one simulated set, and compare with the truth."""
    from scpln.inference import CountData, fit_pln
    from scpln.module.covariances import Basis, Full

    coefficients, vectors, values = truth(job["scenario"])
    random = np.random.default_rng(job["seed"])
    design = np.column_stack([np.ones(N), random.standard_normal(N)])
    residuals = (random.standard_normal((N, P)) * np.sqrt(values)) @ vectors.T
    counts = random.poisson(np.exp(design @ coefficients.T + residuals)).astype(float)
    q = job["directions"]
    covariance = Full(P) if q is None else Basis(P, np.ascontiguousarray(vectors[:, :q]))
    found = fit_pln(CountData(counts, np.zeros(N), design), covariance, prior_precision=0.0, n_threads=1)
    states = found.mean - design @ found.coefficients.T
    if q is None:
        estimated = np.linalg.eigvalsh(found.covariance.dense)[::-1]
    else:
        estimated = found.covariance.estimates["eigenvalues"]
    sigma = (vectors * values) @ vectors.T
    norms = np.linalg.norm(states, axis=1) * np.linalg.norm(residuals, axis=1)
    off = estimated - values[: len(estimated)]
    return {
        "coefficients": found.coefficients.tolist(),
        "eigenvalues": estimated.tolist(),
        "off": float(np.abs(off).sum() / values.sum()),
        "sigma": float(np.linalg.norm(found.covariance.dense - sigma) / np.linalg.norm(sigma)),
        "cosine": float(((states * residuals).sum(1) / np.maximum(norms, 1e-12)).mean()),
        "elbo": float(found.elbo.mean()),
        "converged": found.converged,
    }


def report(results: list[dict[str, Any]]) -> None:
    """A row for each scenario and number of directions."""
    columns = (
        "scenario",
        "directions",
        "sets",
        "error of Λ",
        "error of Σ",
        "cosine of states",
        "bias of effects",
        "s.d. of effects",
    )
    print("| " + " | ".join((*columns, "bias of intercepts", "s.d. of intercepts", "bound", "seconds")) + " |")
    print("|" + "---|" * 12)
    for scenario, choices in DIRECTIONS.items():
        true = truth(scenario)[0]
        for q in choices:
            some = [
                r
                for r in results
                if r["job"]["scenario"] == scenario and r["job"]["directions"] == q and "error" not in r
            ]
            if not some:
                continue
            b = np.array([r["coefficients"] for r in some])
            bias, sd = b.mean(0) - true, b.std(0, ddof=1) if len(b) > 1 else np.full(true.shape, np.nan)
            mean = {name: np.mean([r[name] for r in some]) for name in ("off", "sigma", "cosine", "elbo", "seconds")}
            print(
                f"| {scenario} | {q or 'free Σ'} | {len(some)} | {mean['off']:.3f} | {mean['sigma']:.3f} | {mean['cosine']:.4f} | {bias[:, 1].mean():+.4f} | {sd[:, 1].mean():.4f} "
                f"| {bias[:, 0].mean():+.4f} | {sd[:, 0].mean():.4f} | {mean['elbo']:.3f} | {mean['seconds']:.0f} |"
            )


def main() -> None:
    """Fit what the results lack, then print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10, help="simulated sets of each row (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/known_basis"), help="folder of results")
    args = parser.parse_args()
    jobs = [
        {"scenario": scenario, "directions": q, "seed": seed}
        for seed in range(args.sets)
        for scenario, choices in DIRECTIONS.items()
        for q in choices
    ]
    report(run_missing(jobs, run, args.out / "results.jsonl", args.jobs))


if __name__ == "__main__":
    main()
