"""Counts on a tree: disease in gut studies, and the diversity of new samples, by PLNTree and others; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from machine import machine_facts
from resume import run_missing
from scipy.stats import wasserstein_distance
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tree_data import CASES, is_case, read_study

import scpln

#: What a classifier is given; the last is a classifier of counts itself.
KINDS = ("raw", "clr", "plntree", "pln", "mixture")
#: New samples that are drawn.
DRAWN = 1000


def fitted(kind: str, adata: Any, epochs: int | None) -> Any:
    """A model of a table, of which all samples have the same depth."""
    scpln.model.setup_anndata(adata, size_factor_key="one")
    model = (scpln.model.PLNTree if kind == "plntree" else scpln.model.PLN)(adata)
    model.train(max_epochs=epochs, progress=False, n_threads=1)
    return model


def features(kind: str, model: Any, adata: Any) -> np.ndarray:
    """Numbers of samples for a ridge logistic regression."""
    counts = np.asarray(adata.X)
    if kind == "raw":
        return counts / counts.sum(1, keepdims=True)
    if kind == "clr":
        logs = np.log(counts + 0.5)
        return logs - logs.mean(1, keepdims=True)
    return (
        model.get_proportions(adata, clr=True).to_numpy()
        if kind == "plntree"
        else model.get_latent_representation(adata)
    )


def within_study(job: dict[str, Any]) -> dict[str, Any]:
    """Scores of a quarter of the samples of a study."""
    adata = read_study(Path(job["folder"]), job["study"], job["rank"])
    cases = is_case(adata, job["study"])
    split = StratifiedShuffleSplit(1, test_size=0.25, random_state=job["seed"])
    train, test = next(split.split(cases, cases))
    return classify(adata[train].copy(), adata[test].copy(), cases[train], cases[test], job["epochs"])


def across_studies(job: dict[str, Any]) -> dict[str, Any]:
    """Scores of a study by what the other studies of its disease say, of the taxa that all have."""
    names = [name for name, disease in CASES.items() if disease == CASES[job["study"]]]
    studies = {name: read_study(Path(job["folder"]), name, job["rank"]) for name in names}
    common = sorted(set.intersection(*(set(adata.var_names) for adata in studies.values())))
    cases = {name: is_case(adata, name) for name, adata in studies.items()}
    left_out = studies.pop(job["study"])[:, common].copy()
    train = ad.concat({name: adata[:, common] for name, adata in studies.items()}, index_unique=" ")
    known = np.concatenate([cases[name] for name in studies])
    return classify(train, left_out, known, cases[job["study"]], job["epochs"])


def classify(
    train: ad.AnnData, test: ad.AnnData, known: np.ndarray, truth: np.ndarray, epochs: int | None
) -> dict[str, Any]:
    """Balanced accuracy and AUROC in some samples of classifiers, and of models, of others; and bounds of the former by these models."""
    found = {}
    for kind in KINDS:
        model = fitted(kind, train.copy(), epochs) if kind.startswith("pln") else None
        if kind == "mixture":
            classifier = scpln.model.MixtureClassifier(2, components="dirichlet_multinomial", random_state=0)
            one, other = (np.asarray(each.X, np.float64) for each in (train, test))
        else:
            ridge = LogisticRegressionCV(Cs=10, class_weight="balanced", max_iter=2000, scoring="roc_auc")
            classifier = make_pipeline(StandardScaler(), ridge)
            one, other = (features(kind, model, each.copy()) for each in (train, test))
        scores = classifier.fit(one, known).predict_proba(other)[:, 1]
        middle = known.mean() if kind == "mixture" else 0.5  # its classes have their frequencies
        found[kind] = [balanced_accuracy_score(truth, scores > middle), roc_auc_score(truth, scores)]
        found[kind] += [] if model is None else [float(model.get_elbo(test.copy()))]
    return {"scores": {kind: [float(value) for value in values] for kind, values in found.items()}}


def diversities(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Shannon's and Simpson's, of each sample that has counts."""
    counts = counts[counts.sum(1) > 0]
    shares = counts / counts.sum(1, keepdims=True)
    shannon = -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(1)
    return {"shannon": shannon, "simpson": 1 - np.square(shares).sum(1)}


def describe(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a fit to all samples, and how far distributions of diversity of new samples are from those of real ones."""
    adata = read_study(Path(job["folder"]), job["study"], job["rank"])
    start, used = time.perf_counter(), time.process_time()
    model = fitted("plntree", adata.copy(), job["epochs"])
    result: dict[str, Any] = {"fit": time.perf_counter() - start, "cpu": time.process_time() - used}
    result |= {"shape": list(adata.shape), "iterations": len(model.history["elbo"]), "elbo": float(model.get_elbo())}
    drawn = {
        "sample": model.sample(DRAWN, seed=0).to_numpy(),
        "vamp_sample": model.vamp_sample(DRAWN, seed=0).to_numpy(),
        "PLN": fitted("pln", adata.copy(), job["epochs"]).prior_predictive_sample(DRAWN, seed=0),
    }
    real = diversities(np.asarray(adata.X))
    result["real"] = {name: [float(each.mean()), float(each.std())] for name, each in real.items()}
    for source, counts in drawn.items():
        found = diversities(np.asarray(counts, np.float64))
        result[source] = {
            name: [float(each.mean()), float(each.std()), float(wasserstein_distance(each, real[name]))]
            for name, each in found.items()
        }
    return result


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One job."""
    return {"diversity": describe, "disease": within_study, "other studies": across_studies}[job["part"]](job)


def report(results: list[dict[str, Any]]) -> None:
    """Tables of what there is."""
    rows = []
    for found in results:
        job = found["job"]
        if "error" in found:
            print(job, found["error"])
        elif job["part"] == "diversity":
            print(job["study"], {key: value for key, value in found.items() if key != "job"})
        else:
            for kind, (accuracy, auroc, *bound) in found["scores"].items():
                rows.append((job["study"], job["part"], kind, accuracy, auroc, bound[0] if bound else np.nan))
    table = pd.DataFrame(
        rows, columns=["study", "learned from", "kind", "balanced accuracy", "AUROC", "held-out bound"]
    )
    print(table.groupby(["study", "learned from", "kind"], sort=False).agg(["mean", "std"]).round(3).to_string())


def main() -> None:
    """Run what is missing, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="plntree/data/cMD of the unpacked wheel of plntree 0.1.0")
    parser.add_argument("out", type=Path, help="folder of results")
    parser.add_argument("--study", nargs="+", default=list(CASES))
    parser.add_argument("--rank", default="genus")
    parser.add_argument("--seeds", type=int, default=5, help="splits; 0 for none")
    parser.add_argument("--epochs", type=int, help="most iterations of a model")
    parser.add_argument("--report", action="store_true", help="only print what there is")
    args = parser.parse_args()
    common = {"folder": str(args.folder), "rank": args.rank, "epochs": args.epochs}
    several = [study for study in args.study if list(CASES.values()).count(CASES[study]) > 1]
    parts = [("disease", study, seed) for study in args.study for seed in range(args.seeds)]
    parts += [("other studies", study, 0) for study in several] + [("diversity", study, 0) for study in args.study]
    jobs = [{"part": part, "study": study, "seed": seed, **common} for part, study, seed in parts]
    print(machine_facts(1))
    report(run_missing(jobs, run, args.out / "tree.jsonl", 0 if args.report else 1))


if __name__ == "__main__":
    main()
