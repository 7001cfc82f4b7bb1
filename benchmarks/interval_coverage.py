"""How often intervals hold the truth: log-rates and latent states of simulated cells; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from machine import machine_facts
from scipy.stats import norm

#: Cells, genes and latent dimensions of the regimes.
REGIMES = [(n, p, q) for n, p in ((200, 100), (300, 500), (1000, 100), (1000, 500)) for q in (3, 10)]
LEVEL = 0.9


def main() -> None:
    """Simulate, fit, count, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)), help="one set of counts each")
    parser.add_argument(
        "--densities", nargs="+", type=float, default=[0.3, 0.05], help="shares of counts that are not 0"
    )
    parser.add_argument("--priors", nargs="+", choices=["learned", "none"], default=["learned", "none"])
    parser.add_argument("--likelihoods", nargs="+", choices=["poisson", "nb"], default=["poisson"])
    parser.add_argument("--out", type=Path, default=Path("build/bench/interval_coverage"), help="folder of results")
    parser.add_argument("--quick", action="store_true", help="two regimes and one seed")
    args = parser.parse_args()
    regimes, seeds = (REGIMES[:2], args.seeds[:1]) if args.quick else (REGIMES, args.seeds)
    args.out.mkdir(parents=True, exist_ok=True)
    print(
        "| cells × genes, q, non-zeros | prior, likelihood | dimensions kept | log-rates: parameters uncertain | known "
        "| states: uncertain | known |\n|---|---|---|---|---|---|---|"
    )
    with (args.out / "results.jsonl").open("w") as file:
        file.write(json.dumps(machine_facts(1)) + "\n")
        for density, regime, prior, likelihood in product(args.densities, regimes, args.priors, args.likelihoods):
            found = [coverage(*regime, density, prior, likelihood, seed) for seed in seeds]
            file.writelines(
                json.dumps({"regime": regime, "density": density, "prior": prior, **one}) + "\n" for one in found
            )
            n, p, q = regime
            means = {name: np.mean([one[name] for one in found]) for name in found[0]}
            print(
                f"| {n} × {p}, {q}, {density:.0%} | {prior}, {likelihood} | {means['kept']:.1f} | {means['rates']:.1%} "
                f"| {means['rates_known']:.1%} | {means['states']:.1%} | {means['states_known']:.1%} |",
                flush=True,
            )


def coverage(n: int, p: int, q: int, density: float, prior: str, likelihood: str, seed: int) -> dict[str, float]:
    """Shares of true log-rates and states inside of their 90 % intervals, for one set of counts."""
    import scpln

    adata = scpln.datasets.simulate(n, p, n_latent=q, density=density, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scpln.model.setup_anndata(adata, size_factor_key="size_factor")
        model = scpln.model.PLNPCA(adata, q, prior=prior, likelihood=likelihood)
        model.train(progress=False, seed=seed)
    truth = adata.obsm["true_latent"] @ adata.varm["true_loadings"].T + adata.varm["true_coefficients"].to_numpy().T
    result: dict[str, float] = {"kept": model.n_latent_kept}
    for name, uncertain in (("", True), ("_known", False)):
        lower, upper = model.get_expression_interval(level=LEVEL, parameter_uncertainty=uncertain)
        inside = (np.log(lower.to_numpy()) < truth) & (truth < np.log(upper.to_numpy()))
        result["rates" + name] = float(inside.mean())
        posterior = model.get_posterior(parameter_uncertainty=uncertain)
        result["states" + name] = _states_inside(adata.obsm["true_latent"], posterior.mean, posterior.variance)
    return result


def _states_inside(truth: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> float:
    """Share of true states within their intervals, in the coordinates of the fit: the affine map that is not identified is taken out."""
    inputs = np.column_stack([np.ones(len(truth)), truth])
    aligned = inputs @ np.linalg.lstsq(inputs, mean, rcond=None)[0]
    kept = mean.std(0) > 0
    return float((np.abs(aligned - mean) < norm.ppf(0.5 + LEVEL / 2) * np.sqrt(variance))[:, kept].mean())


if __name__ == "__main__":
    main()
