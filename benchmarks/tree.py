"""Counts on a tree: gut studies by PLNTree, PLN and plain log-ratios; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scpln

#: Counts of each sample, the share of samples that a taxon is in, and the seed of the counts.
DEPTH, PREVALENCE, SEED = 10_000, 0.15, 0
RANKS = {"genus": 6, "species": 7}
#: What is told from others.
CASES = {"KosticAD_2015": "T1D", "ZellerG_2014": "CRC"}


def read_study(folder: Path, study: str, rank: str) -> ad.AnnData:
    """Counts of bacteria, from relative abundances by multinomial draws."""
    table = pd.read_csv(folder / "studies" / f"{study}_species_abundance.csv", index_col=0).astype(float)
    table = table.loc[:, [name.startswith("k__Bacteria") and "s__" in name for name in table]]
    lineages = ["|".join(name.split("|")[1 : RANKS[rank]]) for name in table]
    table = table.T.groupby(lineages, sort=False).sum().T
    table = table.loc[:, (table > 0).mean() >= PREVALENCE]
    random, shares = np.random.default_rng(SEED), table.to_numpy()
    counts = random.multinomial(DEPTH, shares / shares.sum(1, keepdims=True))
    seen = counts.sum(0) > 0
    adata = ad.AnnData(counts[:, seen].astype(np.float32))
    adata.var_names, adata.obs_names = table.columns[seen], table.index.astype(str)
    known = pd.read_csv(folder / "metadata.csv", dtype=str)
    known = known[known["study_name"] == study].set_index("sample_id")
    adata.obs["disease"] = known["disease"].reindex(adata.obs_names).fillna("").to_numpy()
    adata.obs["one"] = 1.0
    return adata


def fitted(kind: str, adata: ad.AnnData, epochs: int | None, **options: Any) -> Any:
    """A model of a table, of which all samples have the same depth."""
    scpln.model.setup_anndata(adata, size_factor_key="one")
    model = (scpln.model.PLNTree if kind == "plntree" else scpln.model.PLN)(adata, **options)
    model.train(max_epochs=epochs, progress=False)
    return model


def log_ratios(counts: np.ndarray) -> np.ndarray:
    """Of leaves, with half a count added."""
    logs = np.log(counts + 0.5)
    return logs - logs.mean(1, keepdims=True)


def features(kind: str, model: Any, adata: ad.AnnData) -> np.ndarray:
    """What a classifier is given of samples."""
    if kind == "clr":
        return log_ratios(np.asarray(adata.X))
    if kind == "plntree":
        return model.get_proportions(adata, clr=True).to_numpy()
    return model.get_latent_representation(adata)


def classify(adata: ad.AnnData, case: str, seeds: int, epochs: int | None, kinds: list[str]) -> dict[str, Any]:
    """Balanced accuracy and AUROC of ridge logistic regressions, and bounds of held-out samples; models see training samples only."""
    is_case = adata.obs["disease"].str.split(";").map(lambda names: case in names).to_numpy()
    found: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for seed in range(seeds):
        split = StratifiedShuffleSplit(1, test_size=0.25, random_state=seed)
        train, test = next(split.split(is_case, is_case))
        for kind in kinds:
            model = None if kind == "clr" else fitted(kind, adata[train].copy(), epochs)
            one, other = (features(kind, model, adata[rows].copy()) for rows in (train, test))
            ridge = LogisticRegressionCV(Cs=10, class_weight="balanced", max_iter=2000, scoring="roc_auc")
            ridge = make_pipeline(StandardScaler(), ridge).fit(one, is_case[train])
            held_out = np.nan if model is None else float(model.get_elbo(adata[test].copy()))
            scores = ridge.predict_proba(other)[:, 1]
            row = [balanced_accuracy_score(is_case[test], scores > 0.5), roc_auc_score(is_case[test], scores), held_out]
            found[kind].append([float(value) for value in row])
            print(seed, kind, np.round(row, 3), flush=True)
    return {kind: {"mean": np.mean(rows, 0).tolist(), "sd": np.std(rows, 0).tolist()} for kind, rows in found.items()}


def diversity(counts: np.ndarray) -> np.ndarray:
    """Shannon's, of each sample."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(1)


def describe(adata: ad.AnnData, epochs: int | None) -> dict[str, Any]:
    """Seconds, bounds, and the diversity of new samples."""
    start, used = time.perf_counter(), time.process_time()
    model = fitted("plntree", adata, epochs)
    result = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used}
    result |= {"shape": list(adata.shape), "iterations": len(model.history["elbo"]), "reason": model.stop_reason}
    result |= {"elbo": float(model.get_elbo()), "iw_bound": float(model.get_iw_bound(n_samples=500))}
    drawn = {
        "real": np.asarray(adata.X),
        "sample": model.sample(1000, seed=0).to_numpy(),
        "vamp_sample": model.vamp_sample(1000, seed=0).to_numpy(),
    }
    for name, counts in drawn.items():
        each = diversity(counts)
        result[f"diversity, {name}"] = [float(each.mean()), float(each.std())]
    return result


def main() -> None:
    """Run what is asked for, and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="plntree/data/cMD of the unpacked wheel of plntree 0.1.0")
    parser.add_argument("--study", nargs="+", default=list(CASES))
    parser.add_argument("--rank", choices=RANKS, default="species")
    parser.add_argument("--seeds", type=int, default=5, help="splits; 0 for none")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--models", nargs="+", default=["clr", "plntree", "pln"])
    args = parser.parse_args()
    for study in args.study:
        adata = read_study(args.folder, study, args.rank)
        found = {"study": study, "rank": args.rank, **describe(adata.copy(), args.epochs)}
        print(json.dumps(found, indent=1), flush=True)
        if args.seeds:
            print(json.dumps(classify(adata, CASES[study], args.seeds, args.epochs, args.models), indent=1), flush=True)


if __name__ == "__main__":
    main()
