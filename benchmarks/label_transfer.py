"""Labels of cells of other batches, donors and protocols: LabelClassifier beside logistic regression, neighbours and an ensemble.

    python benchmarks/label_transfer.py --data ../shared/data [--seeds 5] [--sets kang pbmc_facs] [--parts transfer regression speed]

Every seed leaves one type out of training, whose cells are to be recognised as unseen. Features are 30 principal components of logarithms of 1,000 genes, of training cells.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from scpln.inference.linear import (
    DiagonalCovariance,
    draw_weights,
    entropy,
    fit_label_weights,
    label_scores,
    predict_labels,
)
from scpln.model import LabelClassifier, LabelRegressor, setup_anndata

FILES = {
    "kang": "kang_muscat",
    "pbmc_facs": "pbmc_facs",
    "brain": "brain_mop_dot",
    "mixology": "sc_mixology_5batch",
}
#: Column that is held out as a whole in calibration, of sets that have one.
GROUPS = {"kang": "batch", "brain": "batch", "mixology": "batch"}
N_GENES, N_PCS = 1000, 30


def split(name: str, adata: ad.AnnData, seed: int) -> np.ndarray:
    """Which cells are for training."""
    random = np.random.default_rng(seed)
    if name == "kang":
        conditions = adata.obs["condition"].astype(str)
        return (conditions == min(conditions)).to_numpy()  # control
    if name == "mixology":
        return adata.obs["batch"].astype(str).str.startswith("celseq2").to_numpy()
    if name == "brain":
        batches = np.unique(adata.obs["batch"].astype(str))
        return adata.obs["batch"].astype(str).isin(random.permutation(batches)[: len(batches) // 2]).to_numpy()
    return random.random(adata.n_obs) < 0.3


def features(adata: ad.AnnData, train: np.ndarray) -> np.ndarray:
    """Principal components of training cells, and places of the others along them."""
    logs = adata.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    if logs.n_vars > N_GENES:
        chosen = logs[train].copy()
        sc.pp.highly_variable_genes(chosen, n_top_genes=N_GENES)
        logs = logs[:, chosen.var["highly_variable"].to_numpy()]
    values = np.asarray(logs.X.todense(), dtype=np.float64)
    return PCA(N_PCS, random_state=0).fit(values[train]).transform(values)


def ours(x, codes, groups, train, new, *, calibrate=True):
    """Probabilities and scores of novelty of a LabelClassifier."""
    adata = ad.AnnData(np.zeros((len(x), 1), np.float32), obsm={"X_pca": x})
    adata.obs["label"] = pd.Categorical([f"{code:03d}" if code >= 0 else None for code in codes])
    adata.obs["group"] = "all" if groups is None else groups
    some = adata[train].copy()
    setup_anndata(some, labels_key="label", is_count_data=False)
    model = LabelClassifier(some, use_rep="X_pca")
    by_group = groups is not None and some.obs["group"].nunique() > 1
    model.train(progress=False, calibrate=calibrate, cv_key="group" if by_group else None)
    query = adata[new].copy()
    table = model.get_label_uncertainty(query)
    found = {
        "entropy": table["entropy"],
        "mutual_information": table["mutual_information"],
        "novelty": table["novelty"],
    }
    return model.predict(query, soft=True).to_numpy(), {name: each.to_numpy() for name, each in found.items()}


def logistic(x, codes, train, new, *, c=None, seed=0):
    """Logistic regression on the same features and scale; C chosen by five folds, unless it is given."""
    scaled = (x - x[train].mean(0)) / x[train].std(0).max()
    if c is None:
        model = LogisticRegressionCV(
            Cs=np.logspace(-2, 4, 7), cv=5, scoring="neg_log_loss", max_iter=2000, random_state=seed
        )
    else:
        model = LogisticRegression(C=c, max_iter=2000)
    return model.fit(scaled[train], codes[train]).predict_proba(scaled[new])


def ensemble(x, codes, train, new, seed, *, size=10):
    """Mean of logistic regressions of cells drawn with replacement."""
    random, total = np.random.default_rng(seed), 0.0
    n_classes = codes[train].max() + 1
    for _ in range(size):
        drawn = random.choice(train, len(train))
        missing = [train[codes[train] == c][0] for c in np.setdiff1d(np.arange(n_classes), codes[drawn])]
        total = total + logistic(x, codes, np.r_[drawn, missing].astype(int), new, c=10)
    return total / size


def neighbours(x, codes, train, new):
    """Shares among 15 neighbours, each label counted by one more cell of all."""
    found = KNeighborsClassifier(15).fit(x[train], codes[train]).predict_proba(x[new])
    base = np.bincount(codes[train]) / len(train)
    return (15 * found + base) / 16


def measure(probabilities, codes, scores):
    """Scores of cells with a label of training, and how well others are recognised."""
    known = codes >= 0
    found = label_scores(probabilities[known], codes[known])
    sure = probabilities[known].max(1)
    kept = sure >= np.quantile(sure, 0.1)
    found["accuracy_90"] = float((probabilities[known].argmax(1) == codes[known])[kept].mean())
    for name, value in {"entropy": entropy(probabilities), **scores}.items():
        found[f"auroc_{name}"] = float(roc_auc_score(~known, value)) if (~known).any() else float("nan")
    return found


def transfer(data: Path, sets: list[str], seeds: int):
    """One line for each set, seed and method."""
    for name in sets:
        adata = ad.read_h5ad(data / f"{FILES[name]}.h5ad")
        types = adata.obs["labels"].astype(str).to_numpy()
        for seed in range(seeds):
            is_train = split(name, adata, seed)
            sizes = pd.Series(types[is_train]).value_counts()
            eligible = sorted(set(sizes.index[sizes >= 10]) & set(types[~is_train]))
            unseen = eligible[seed % len(eligible)]
            labels = sorted(set(types[is_train]) - {unseen})
            codes = np.array([labels.index(each) if each in labels else -1 for each in types])
            train = np.flatnonzero(is_train & (codes >= 0))
            new = np.flatnonzero(~is_train & ((codes >= 0) | (types == unseen)))
            x = features(adata, np.isin(np.arange(adata.n_obs), train))
            groups = adata.obs[GROUPS[name]].astype(str).to_numpy() if name in GROUPS else None
            methods = {
                "LabelClassifier": lambda: ours(x, codes, groups, train, new),  # noqa: B023
                "by cells": lambda: ours(x, codes, None, train, new),  # noqa: B023
                "untempered": lambda: ours(x, codes, None, train, new, calibrate=False),  # noqa: B023
                "logistic, C by folds": lambda: (logistic(x, codes, train, new), {}),  # noqa: B023
                "logistic, C = 1": lambda: (logistic(x, codes, train, new, c=1), {}),  # noqa: B023
                "ensemble": lambda: (ensemble(x, codes, train, new, seed), {}),  # noqa: B023
                "neighbours": lambda: (neighbours(x, codes, train, new), {}),  # noqa: B023
            }
            if groups is None:
                del methods["by cells"]  # which it is then
            for method, call in methods.items():
                started = time.process_time()
                probabilities, scores = call()
                seconds = time.process_time() - started
                row = {"set": name, "seed": seed, "unseen": unseen, "method": method, "seconds": round(seconds, 2)}
                yield {**row, **measure(probabilities, codes[new], scores)}


def regression(data: Path):
    """Coverage of 90 % intervals of the total count, by the proportions of genes, of half of the cells."""
    for name, file in FILES.items():
        adata = ad.read_h5ad(data / f"{file}.h5ad")
        for seed in range(5):
            is_train = np.random.default_rng(seed).random(adata.n_obs) < 0.5
            x = features(adata, is_train)
            made = ad.AnnData(np.zeros((adata.n_obs, 1), np.float32), obsm={"X_pca": x[:, 1:]})
            made.obs["value"] = x[:, 0] + np.random.default_rng(seed).standard_normal(len(x)) * x[:, 0].std()
            some = made[is_train].copy()
            setup_anndata(some, is_count_data=False)
            model = LabelRegressor(some, "value", use_rep="X_pca")
            model.train(progress=False)
            new = made[~is_train].copy()
            row = {"part": "regression", "set": name, "seed": seed}
            for conformal in (False, True):
                table = model.predict(new, conformal=conformal)
                inside = (new.obs["value"] >= table["lower"]) & (new.obs["value"] <= table["upper"])
                row["conformal" if conformal else "normal"] = float(inside.mean())
            yield row


def speed():
    """Processor seconds of a fit to 100,000 cells of 50 features with 40 labels, and predictions a second at 50 draws."""
    random = np.random.default_rng(0)
    n, d, c = 100_000, 50, 40
    codes = random.integers(0, c, n)
    x = random.standard_normal((c, d))[codes] * 0.6 * np.linspace(2, 0.3, d) + random.standard_normal((n, d))
    design = np.column_stack([np.ones(n), (x - x.mean(0)) / x.std(0).max()])
    started = time.process_time()
    fit = fit_label_weights(design, codes, c, covariance="diagonal")
    yield {
        "part": "fit",
        "seconds": time.process_time() - started,
        "converged": fit.converged,
        "steps": len(fit.history),
    }
    single = design.astype(np.float32)
    for n_labels in (10, 40):
        mean = fit.mean[:, :n_labels]
        weights = draw_weights(mean, DiagonalCovariance(fit.covariance.factor[:, :n_labels]), 50, 0)
        started = time.process_time()
        predict_labels(n, lambda rows: single[rows], weights)
        yield {"part": "predict", "labels": n_labels, "cells_per_second": n / (time.process_time() - started)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=("transfer", "regression", "speed"), default=["transfer"])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for part in args.parts:
        lines = {
            "transfer": lambda: transfer(args.data, args.sets, args.seeds),
            "regression": lambda: regression(args.data),
        }
        for row in lines.get(part, speed)():
            print(json.dumps(row), flush=True)
            rows.append(row)
        if part == "transfer":
            table = pd.DataFrame(rows).drop(columns=["seed", "unseen"])
            print(table.groupby(["set", "method"], sort=False).median(numeric_only=True).round(3).to_string())


if __name__ == "__main__":
    main()
