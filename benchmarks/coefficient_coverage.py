"""How often intervals of coefficients and covariances hold the truth; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from machine import machine_facts

LEVEL = 0.95
#: Covariates of every regime: a number and a group of cells, or of donors where these are what varies.
METHODS = ("hc3", "sandwich", "model")


@dataclass(frozen=True)
class Regime:
    """Counts of a model that is true, and the model that is fitted to them."""

    name: str
    n: int
    p: int
    level: float = 1.0  # mean log-rate
    model: str = "PLN"
    posterior: str = "fullrank"
    prior: str = "none"  # of PLN-PCA
    q: int = 3
    donors: int = 0  # of which each has an effect on every gene, and a treatment
    samples: int = 0  # of a bootstrap, and whether there is a jackknife


REGIMES = [
    Regime("PLN", 200, 10),
    Regime("PLN", 1000, 10),
    Regime("PLN", 200, 20),
    Regime("PLN", 1000, 20),
    Regime("PLN, few cells", 50, 10),
    Regime("PLN, rare genes", 200, 10, level=-1.0),
    Regime("PLN, rare genes", 1000, 10, level=-1.0),
    Regime("PLN, very rare genes", 1000, 10, level=-3.0),
    Regime("PLN, mean-field", 1000, 10, posterior="meanfield"),
    Regime("PLN, mean-field, rare genes", 1000, 10, level=-1.0, posterior="meanfield"),
    Regime("PLN-PCA", 200, 20, model="PLNPCA"),
    Regime("PLN-PCA", 1000, 20, model="PLNPCA"),
    Regime("PLN-PCA", 1000, 200, level=0.0, model="PLNPCA"),
    Regime("PLN-PCA, learned prior", 1000, 200, level=0.0, model="PLNPCA", prior="learned"),
    Regime("PLN, 20 donors", 400, 6, donors=20),
    Regime("PLN, 6 donors", 300, 6, donors=6),
    Regime("PLN, resampled", 40, 3, samples=100),
]


def main() -> None:
    """Simulate, fit, count, and print a table. What is in the folder of results is not done again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200, help="simulated sets of each regime")
    parser.add_argument("--only", nargs="+", type=int, help="numbers of regimes, from 0, in order")
    parser.add_argument("--out", type=Path, default=Path("build/bench/coefficient_coverage"), help="folder of results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "machine.json").write_text(json.dumps(machine_facts(1)))
    logging.getLogger("scpln").setLevel(logging.ERROR)
    for number in range(len(REGIMES)) if args.only is None else args.only:
        regime = REGIMES[number]
        print(*rows(regime, results(regime, args.sets, args.out / f"{number}.jsonl")), sep="\n", flush=True)


def results(regime: Regime, n_sets: int, file: Path) -> list[dict[str, Any]]:
    """Of the first sets of a regime, from the file or new."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = [one for one in map(json.loads, lines) if one["regime"] == asdict(regime)]
    with file.open("a") as stream:
        for seed in range(len(found), n_sets):
            found.append({"regime": asdict(regime), "seed": seed, **coverage(regime, seed)})
            stream.write(json.dumps(found[-1]) + "\n")
            stream.flush()
    return found[:n_sets]


def rows(regime: Regime, found: list[dict[str, Any]]) -> list[str]:
    """Lines of the table: one for each kind of error."""
    shares = {key for one in found for key in one if key.startswith("in ")}
    estimates = np.array([one["error"] for one in found])
    lines = []
    for key in sorted(shares):
        kind = key.removeprefix("in ")
        inside = np.mean([one[key] for one in found], 0)
        size = ""
        if f"se {kind}" in found[0]:
            spread = np.sqrt(np.mean(np.square(estimates), (0, 1)))
            size = " / ".join(f"{x:.2f}" for x in np.mean([one[f"se {kind}"] for one in found], 0) / spread)
        text = " / ".join(f"{x:.1%}" for x in np.atleast_1d(inside))
        lines.append(f"| {regime.name} | {regime.n:,} × {regime.p} | {kind} | {text} | {size} | {len(found)} |")
    return lines


def simulate(regime: Regime, seed: int) -> tuple[anndata.AnnData, np.ndarray, np.ndarray]:
    """Counts, and B and Σ of them, which are those of all sets."""
    truth, random = np.random.default_rng(2024), np.random.default_rng(seed)
    n, p = regime.n, regime.p
    coefficients = 0.5 * truth.standard_normal((p, 3)) + np.array([regime.level, 0, 0])
    if regime.model == "PLN":
        sigma = 0.8 ** np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
        root = np.linalg.cholesky(sigma)
    else:
        root = 0.6 * truth.standard_normal((p, regime.q))
        sigma = root @ root.T
    obs = pd.DataFrame({"x": random.standard_normal(n), "group": random.integers(0, 2, n)}, index=map(str, range(n)))
    noise = np.zeros((n, p))
    if regime.donors:
        obs["donor"] = np.arange(n) % regime.donors
        obs["group"] = obs["donor"] % 2
        noise = 0.5 * random.standard_normal((regime.donors, p))[obs["donor"]]
    design = np.column_stack([np.ones(n), obs["group"], obs["x"]])
    log_rates = design @ coefficients.T + random.standard_normal((n, root.shape[1])) @ root.T + noise
    counts = random.poisson(np.exp(log_rates)).astype(np.float32)
    obs = obs.assign(group=obs["group"].map({0: "a", 1: "b"}).astype("category"), one=1.0)
    return anndata.AnnData(counts, obs=obs), coefficients, sigma


def coverage(regime: Regime, seed: int) -> dict[str, Any]:
    """Shares of coefficients (intercept, group, number), variances and covariances in their intervals, and errors."""
    import scpln

    adata, coefficients, sigma = simulate(regime, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        covariates = {"categorical_covariate_keys": ["group"], "continuous_covariate_keys": ["x"]}
        scpln.model.setup_anndata(adata, size_factor_key="one", **covariates)
        if regime.model == "PLN":
            model = scpln.model.PLN(adata, posterior=regime.posterior)
        else:
            model = scpln.model.PLNPCA(adata, regime.q, prior=regime.prior)
        model.train(progress=False, n_threads=1, tol=1e-6)
        result: dict[str, Any] = {"error": (model.get_coefficients().to_numpy() - coefficients).tolist()}
        kinds = [(method, None) for method in METHODS] + (
            [("hc3", "donor"), ("sandwich", "donor")] if regime.donors else []
        )
        for method, donor_key in kinds:
            table = model.get_coefficients(with_se=True, interval=LEVEL, method=method, donor_key=donor_key)
            _count(result, method if donor_key is None else f"{method}, donor_key", table, coefficients)
        if regime.p <= 20 and not regime.donors:
            _count_covariances(result, model, sigma)
        if regime.samples:
            bootstrap = model.bootstrap(regime.samples, seed=seed, n_threads=1, progress=False)
            _count(result, "bootstrap, percentiles", bootstrap.get_coefficients(LEVEL), coefficients)
            _count(result, "bootstrap, normal", bootstrap.get_coefficients(LEVEL, percentile=False), coefficients)
            jackknife = model.jackknife(n_threads=1, progress=False)
            _count(result, "jackknife", jackknife.get_coefficients(LEVEL), coefficients)
    return result


def _count(result: dict[str, Any], kind: str, table: pd.DataFrame, truth: np.ndarray) -> None:
    lower, upper, se = (table.xs(name, axis=1, level=1).to_numpy() for name in ("lower", "upper", "se"))
    result[f"in {kind}"] = ((lower < truth) & (truth < upper)).mean(0).tolist()
    result[f"se {kind}"] = se.mean(0).tolist()


def _count_covariances(result: dict[str, Any], model: Any, sigma: np.ndarray) -> None:
    """Of variances, covariances and correlations."""
    root = model._root()
    found = root @ root.T
    deviation = np.sqrt(np.diag(sigma))
    own = np.eye(len(sigma), dtype=bool)
    inside = np.abs(found - sigma) < 1.96 * model.get_covariance_errors().to_numpy()
    correlation, of_found = (
        sigma / np.outer(deviation, deviation),
        found / np.sqrt(np.outer(np.diag(found), np.diag(found))),
    )
    se = model.get_covariance_errors(correlation=True).to_numpy()
    close = np.abs(of_found - correlation) < 1.96 * se
    result["in Σ: variances, covariances, correlations"] = [
        float(inside[own].mean()),
        float(inside[~own].mean()),
        float(close[~own].mean()),
    ]


if __name__ == "__main__":
    main()
