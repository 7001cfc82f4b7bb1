"""Counts on a tree given their totals: held-out log-likelihood of tree walks, the Dirichlet tree, PLN and PLNTree; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import poisson
from tree import read_study

import scpln

WALKS = ("exchangeable", "local", "global")
METHODS = (*WALKS, "pln", "plntree")
RANKS = ["Phylum", "Class", "Order", "Family", "Genus"]
#: Columns with the largest sums that are kept of microcosm, the share of samples that are held out, and most children whose orders are summed over.
TAXA, HELD_OUT, MAX_CHILDREN = 60, 0.25, 7
#: Draws of importance-weighted bounds, and of totals.
DRAWS, DRAWS_OF_TOTALS = 1000, 20_000


def read_microcosm(data: Path, affiliations: Path) -> ad.AnnData:
    """Amplicons of cows, by taxonomic rank; 44 of 259 have no affiliation, and are left out."""
    known = pd.read_csv(affiliations, sep="\t").set_index("ASV")
    adata = ad.read_h5ad(data / "pln_microcosm.h5ad")
    adata = adata[:, adata.var_names.isin(known.index)]
    adata = adata[:, np.argsort(-np.asarray(adata.X.sum(0)).ravel())[:TAXA]].copy()
    adata.var[RANKS] = known.loc[adata.var_names, RANKS].to_numpy()
    adata.uns["levels"] = RANKS
    return adata


def read_brain(data: Path) -> ad.AnnData:
    """Types of motor cortex by library: class, subclass, type."""
    cells = ad.read_h5ad(data / "brain_mop_dot.h5ad")
    names = cells.obs["labels"].astype(str)
    cells.obs["subclass"] = names.str.replace(r"^(L\S+ \w+|[A-Za-z0-9]+).*", r"\1", regex=True)
    kinds = {"Lamp5": "GABAergic", "Pvalb": "GABAergic", "Sst": "GABAergic", "Vip": "GABAergic"}
    is_layer = cells.obs["subclass"].str.match(r"L\d")
    cells.obs["class"] = cells.obs["subclass"].map(kinds).where(~is_layer, "glutamatergic").fillna("non-neuronal")
    adata = scpln.tl.composition(cells, "batch", ["class", "subclass", "labels"])
    adata.uns["levels"] = ["class", "subclass"]
    return adata


def read_sets(args: argparse.Namespace) -> dict[str, ad.AnnData]:
    """What there is of the sets; all counts as a dense array, of samples that have any."""
    found = {}
    if args.data and args.affiliations:
        found["microcosm"] = read_microcosm(args.data, args.affiliations)
    if args.data:
        found["motor cortex"] = read_brain(args.data)
    for study in args.study if args.studies else ():
        found[study] = read_study(args.studies, study, "genus")
    for name, adata in found.items():
        counts = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
        adata.X = counts.astype(np.float32)
        adata.obs["total"] = counts.sum(1).astype(float)
        adata.obs["size"] = adata.obs["total"] / adata.obs["total"].mean()
        found[name] = adata[adata.obs["total"] > 0].copy()
    return found


def fitted(method: str, train: ad.AnnData, seed: int) -> Any:
    """A model of training samples."""
    scpln.model.setup_anndata(train, size_factor_key=None if method in WALKS else "size")
    levels = None if "levels" not in train.uns else list(train.uns["levels"])
    if method in WALKS:
        model = scpln.model.TreeWalk(train, levels, walk=method, max_children=MAX_CHILDREN)
    else:
        model = scpln.model.PLN(train) if method == "pln" else scpln.model.PLNTree(train, levels)
    model.train(seed=seed, n_threads=1, progress=False)
    return model


def log_rates(method: str, model: Any, n: int, seed: int) -> np.ndarray:
    """Log-rates of new samples with size factor 1, (n, leaves): draws of the fitted normal distribution, without covariates."""
    random = np.random.default_rng(seed)
    if method == "pln":
        covariance = model.get_covariance().to_numpy()
        mean = model.get_coefficients().to_numpy().reshape(-1, len(covariance))[0]
        return mean + random.standard_normal((n, len(mean))) @ np.linalg.cholesky(covariance).T
    scale = model.module.scale.cpu().numpy()
    z = random.standard_normal((n, len(scale))) @ scale.T
    return model.module.decode(z, np.ones((n, 1)))[0].cpu().numpy()


def held_out(method: str, model: Any, test: ad.AnnData, seed: int) -> np.ndarray:
    """Log-probability of each held-out sample's counts given its total, or a lower bound of it, (n,), nats.

    Of PLN and PLNTree, log p(y | size factor) − log p(N | size factor): an importance-weighted bound, less what the prior says of the total by
    20,000 draws.
    """
    if method in WALKS:
        return model.get_iw_bound(test, n_samples=DRAWS, return_mean=False, seed=seed)
    bounds = model.get_iw_bound(test, n_samples=DRAWS, return_mean=False, seed=seed)
    sums = logsumexp(log_rates(method, model, DRAWS_OF_TOTALS, seed), axis=1)
    sizes, totals = test.obs["size"].to_numpy(), test.obs["total"].to_numpy()
    of_totals = [
        logsumexp(poisson.logpmf(total, size * np.exp(sums))) for size, total in zip(sizes, totals, strict=True)
    ]
    return bounds - (np.array(of_totals) - np.log(DRAWS_OF_TOTALS))


def compare(adata: ad.AnnData, methods: list[str], seeds: range) -> dict[str, list[dict[str, Any]]]:
    """Held-out samples of several splits, of all methods the same."""
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(adata.n_obs)
        n_test = round(HELD_OUT * adata.n_obs)
        train, test = adata[order[n_test:]].copy(), adata[order[:n_test]].copy()
        for method in methods:
            start = time.process_time()
            model = fitted(method, train.copy(), seed)
            seconds, values = time.process_time() - start, held_out(method, model, test, seed)
            row = {"mean": float(values.mean()), "values": values.tolist(), "cpu_seconds": seconds}
            found[method].append({**row, "reason": model.stop_reason, "train": float(model.get_elbo())})
            print(seed, method, round(row["mean"], 3), round(seconds, 1), model.stop_reason, flush=True)
    return found


def summary(found: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Means over splits, differences from the Dirichlet tree with the standard deviation over splits, and processor seconds."""
    means = pd.DataFrame({method: [row["mean"] for row in rows] for method, rows in found.items()})
    baseline = means["exchangeable"] if "exchangeable" in means else means.iloc[:, 0]
    gain = means.sub(baseline, axis=0)
    seconds = {method: np.median([row["cpu_seconds"] for row in rows]) for method, rows in found.items()}
    columns = {"nats": means.mean(), "gain": gain.mean(), "sd": gain.std(), "wins": (gain > 0).sum()}
    return pd.DataFrame({**columns, "seconds": pd.Series(seconds)}).round(2)


def main() -> None:
    """Run what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with pln_microcosm.h5ad and brain_mop_dot.h5ad")
    parser.add_argument("--affiliations", type=Path, help="affiliations.tsv of microcosm, of pyPLNmodels' wheel")
    parser.add_argument("--studies", type=Path, help="plntree/data/cMD of the unpacked wheel of plntree 0.1.0")
    parser.add_argument("--study", nargs="+", default=["KosticAD_2015"])
    parser.add_argument("--only", nargs="+", help="names of sets")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5, help="splits")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--out", type=Path, default=Path("build/bench/tree_walk"))
    args = parser.parse_args()
    logging.getLogger("scpln").setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, adata in read_sets(args).items():
        if args.only and name not in args.only:
            continue
        print(name, adata.shape, flush=True)
        found = compare(adata, args.methods, range(args.first, args.first + args.seeds))
        (args.out / f"{name.replace(' ', '_')}.json").write_text(json.dumps(found, indent=1))
        print(summary(found).to_string(), flush=True)


if __name__ == "__main__":
    main()
