"""What is not finite in the results of every model, likelihood and posterior on hostile counts; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import machine_facts
from report import show_facts, show_table, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from scpln.model.base import ScplnModel

SEEDS, CELLS, GENES, NEW_CELLS, DRAWS = 20, 45, 16, 10, 30
ITERATIONS, STEPS, EPOCHS = 60, 20, 4
LIKELIHOODS = ("poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli")
FLOW = {"posterior": "flow", "n_transforms": 2, "flow_hidden": [16]}
#: Arguments of each model by the name of its posterior.
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "PLNPCA": {
        "fullrank": {},
        "meanfield": {"posterior": "meanfield"},
        "flow": FLOW,
        "encoder": {"amortized": True, "encoder_hidden": [16]},
    },
    "CountVAE": {
        "fullrank": {"n_hidden": 16},
        "meanfield": {"n_hidden": 16, "posterior": "meanfield"},
        "flow": {"n_hidden": 16, **FLOW},
    },
    "CountGMVAE": {
        "fullrank": {"n_hidden": 16, "n_components": 3},
        "by component": {"n_hidden": 16, "n_components": 3, "component_posteriors": True},
    },
}


def hostile_counts(seed: int, n_cells: int = CELLS, n_genes: int = GENES) -> AnnData:
    """Counts with everything that is hard at once: depths of 1 to 10⁶, 99.5 % zeros, and a gene in one cell.

    A third of the cells has one count, a few have a million in a few genes; one gene is in one cell, and two batches
    have a gene each that the other lacks.
    """
    import anndata as ad
    import pandas as pd

    random = np.random.default_rng(seed)
    depth = np.exp(random.uniform(0, np.log(1e6), n_cells)).astype(int)
    depth[: n_cells // 3] = 1
    depth[n_cells // 3] = 1_000_000
    shares = random.dirichlet(np.full(n_genes, 0.01), size=n_cells)
    counts = np.array([random.multinomial(n, p / p.sum()) for n, p in zip(depth, shares, strict=True)])
    keep = random.random(counts.shape) < 0.005 / max((counts > 0).mean(), 0.005)
    kept = counts * keep
    empty = kept.sum(1) == 0
    kept[empty, counts[empty].argmax(1)] = counts[empty].max(1)  # every cell has a count
    batches = np.arange(n_cells) % 2
    kept[batches == 0, 0] = kept[batches == 1, 1] = 0
    kept[:, 2] = 0
    kept[n_cells // 2, 2] = 7  # a gene in one cell
    empty = kept.sum(1) == 0
    kept[empty, 3] = 1
    order = random.permutation(n_cells)
    names = pd.Index([f"cell{i}" for i in range(n_cells)])
    adata = ad.AnnData(
        kept[order].astype(np.float32), obs=pd.DataFrame({"batch": batches[order].astype(str)}, index=names)
    )
    adata.var_names = [f"gene{j}" for j in range(n_genes)]
    return adata


def trained(model: str, likelihood: str, adata: AnnData, seed: int, **arguments: Any) -> ScplnModel:
    """The model after a short training."""
    import scpln

    scpln.model.setup_anndata(adata, batch_key="batch")
    made = getattr(scpln.model, model)(adata, n_latent=2, likelihood=likelihood, **arguments)
    if model == "PLNPCA":
        stochastic = {"n_steps": STEPS} if "amortized" in arguments or arguments.get("posterior") == "flow" else {}
        made.train(ITERATIONS, n_threads=1, seed=seed, progress=False, **stochastic)
    else:
        made.train(EPOCHS, batch_size=32, n_threads=1, seed=seed, progress=False)
    return made


def results(model: ScplnModel, new: AnnData) -> Iterator[tuple[str, NDArray]]:
    """Every result of a model as an array, by name: of the training cells, and of new ones."""
    for name, adata in (("", None), ("new cells, ", new)):
        mean, variance = model.get_latent_representation(adata, return_dist=True)
        yield f"{name}latent means and variances", np.concatenate([mean, variance])
        yield f"{name}bound", model.get_elbo(adata, return_mean=False)
        weights = model.get_posterior_diagnostics(adata, n_samples=DRAWS)
        yield f"{name}importance-weighted bound, gap, ess", weights.drop(columns="pareto_k").to_numpy()
        yield f"{name}terms of the bound", model.get_bound_terms(adata, n_samples=DRAWS).to_numpy(dtype=float)
        yield f"{name}latent dimensions", model.get_latent_dimensions(adata).to_numpy(dtype=float)
        yield f"{name}rates", model.get_normalized_expression(adata, return_numpy=True)
        yield (
            f"{name}rates in the other batch",
            model.get_normalized_expression(adata, transform_batch=["0", "1"], return_numpy=True),
        )
        yield f"{name}expected counts", model.get_normalized_expression(adata, library_size="latent", return_numpy=True)
        drawn = model.get_normalized_expression(adata, n_samples=DRAWS, return_mean=False)
        yield f"{name}rates of draws", np.asarray(drawn)
        yield f"{name}posterior predictive", model.posterior_predictive_sample(adata, n_samples=2).todense()
    yield "prior predictive", model.prior_predictive_sample(50)
    yield "parameters of genes", model.get_gene_parameters().to_numpy(dtype=float)
    if type(model).__name__ == "PLNPCA":
        yield "coefficients", model.get_coefficients().to_numpy()
        yield "loadings", model.get_loadings().to_numpy()
        yield "covariance of genes", model.get_covariance().to_numpy()
        yield "variance explained", model.get_variance_explained().to_numpy()
    if type(model).__name__ == "CountGMVAE":
        yield "cluster probabilities", model.get_cluster_probabilities().to_numpy()
        parameters = model.get_component_parameters()
        yield "parameters of components", np.concatenate([np.ravel(v) for k, v in parameters.items() if k != "names"])
    table = model.differential_expression(groupby="batch", group1="0", silent=True, all_stats=False, batch_size=None)
    yield "differential expression", table.select_dtypes("number").to_numpy(dtype=float)
    yield "history", np.concatenate([np.ravel(table) for table in model.history_.values()])


def count(model: ScplnModel, new: AnnData) -> dict[str, tuple[int, int]]:
    """Entries that are not finite, and all of them, of each result."""
    found = {}
    for name, values in results(model, new):
        found[name] = int((~np.isfinite(values)).sum()), int(np.size(values))
    return found


def campaign(n_seeds: int = SEEDS) -> list[dict[str, Any]]:
    """Fit every model with every likelihood and posterior from so many seeds, each on counts of its own."""
    runs = []
    for name, likelihood in product(MODELS, LIKELIHOODS):
        for posterior, arguments in MODELS[name].items():
            begin = time.perf_counter()
            for seed in range(n_seeds):
                adata, new = hostile_counts(seed), hostile_counts(1000 + seed, NEW_CELLS)
                run: dict[str, Any] = {"model": name, "likelihood": likelihood, "posterior": posterior, "seed": seed}
                try:
                    model = trained(name, likelihood, adata, seed, **arguments)
                    run["results"] = count(model, new)
                except Exception as error:  # noqa: BLE001 -- what a fit ends with is a finding
                    run["error"] = f"{type(error).__name__}: {error}"
                runs.append(run)
            bad = [run for run in runs[-n_seeds:] if "error" in run or any(n for n, _ in run["results"].values())]
            seconds = time.perf_counter() - begin
            print(f"{name}, {likelihood}, {posterior}: {len(bad)} of {n_seeds} runs, {seconds:.0f} s", flush=True)
    return runs


def show(runs: list[dict[str, Any]]) -> None:
    """Print what was not finite, by model, likelihood, posterior and result, and how many results were."""
    rows, n_results, n_values = [], 0, 0
    keys = list(dict.fromkeys((run["model"], run["likelihood"], run["posterior"]) for run in runs))
    for key in keys:
        own = [run for run in runs if (run["model"], run["likelihood"], run["posterior"]) == key]
        errors = [run["error"] for run in own if "error" in run]
        if errors:
            rows.append([", ".join(key), f"ended with an error ({errors[0][:80]})", len(errors), "", ""])
        counted = [run["results"] for run in own if "results" in run]
        for result in dict.fromkeys(name for each in counted for name in each):
            pairs = np.array([each[result] for each in counted if result in each])
            n_results, n_values = n_results + len(pairs), n_values + int(pairs[:, 1].sum())
            if pairs[:, 0].any():
                share = f"{pairs[:, 0].sum() / pairs[:, 1].sum():.2%}"
                rows.append([", ".join(key), result, int((pairs[:, 0] > 0).sum()), int(pairs[:, 0].sum()), share])
    columns = ("model", "result", "runs", "not finite", "of its values")
    show_table(
        f"{len(runs)} fits, {n_results:,} results, {n_values:,} values: where some are not finite", columns, rows
    )


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="sets of counts")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="one seed")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    import logging

    logging.getLogger("scpln").setLevel(logging.ERROR)
    facts = machine_facts(1)
    show_facts(facts)
    runs = campaign(1 if args.quick else args.seeds)
    show(runs)
    write_json(args.out / "hostile_counts.json", {"machine": facts, "runs": runs})


if __name__ == "__main__":
    main()
