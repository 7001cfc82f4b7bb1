"""Mixtures and discriminant analysis in gene space on sets of ecology; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
from gene_space_sets import GeneSpaceSet
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold

from scpln.inference import CountData, Entries
from scpln.inference.genespace.mixture import fit_pln_groups, fit_pln_mixture, infer_pln_mixture
from scpln.module.covariances import COVARIANCES

#: Families and posteriors of mixtures, and sets that are clustered.
FAMILIES = (("spherical", "meanfield"), ("diagonal", "meanfield"), ("full", "meanfield"), ("full", "fullrank"))
CLUSTERED = ("pln_trichoptera", "pln_barents", "pln_mollusk", "pln_oaks")
#: Sets with labels, most columns (of the largest totals), and most samples.
LABELLED = (("pln_mollusk", "site"), ("pln_mollusk", "season"), ("pln_oaks", "tree"), ("pln_scRNA", "cell_line"))
MOST_GENES, MOST_CELLS, FOLDS, REPEATS = 50, 300, 5, 2


def main() -> None:
    """Fit all, one after the other, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with pln_*.h5ad; those that it lacks are skipped"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=["mixture", "lda", "all"], default="all")
    parser.add_argument("--sets", nargs="+", help="sets; by default all")
    args = parser.parse_args()
    if args.part != "lda":
        _mixtures(args)
    if args.part != "mixture":
        _discriminants(args)


def _mixtures(args: argparse.Namespace) -> None:
    print(
        "| set | covariance | posterior | K by ICL | bound by K | ICL by K | seconds |\n|---|---|---|---|---|---|---|"
    )
    for name in CLUSTERED:
        path = args.data / f"{name}.h5ad"
        if not path.exists() or (args.sets and name not in args.sets):
            continue
        given = GeneSpaceSet.read(path)
        kept = given.counts.sum(1) > 0
        data = CountData(
            given.counts[kept], np.zeros(kept.sum()), np.ones((kept.sum(), 1)), entries=Entries(given.offsets[kept])
        )
        for covariance, posterior in FAMILIES:
            start = time.perf_counter()
            found = fit_pln_mixture(
                data, COVARIANCES[covariance](data.n_genes), posterior=posterior, n_threads=args.threads
            )
            seconds = time.perf_counter() - start
            bounds = ", ".join(f"{each.bound:,.1f}" for each in found.criteria)
            criteria = ", ".join(f"{each.icl:,.1f}" for each in found.criteria)
            chosen = found.parameters.n_components
            print(
                f"| {name} | {covariance} | {posterior} | {chosen} | {bounds} | {criteria} | {seconds:.1f} |",
                flush=True,
            )


def _discriminants(args: argparse.Namespace) -> None:
    print(
        "| set | label | method | balanced accuracy | log-probability of the label | seconds |\n|---|---|---|---|---|---|"
    )
    for name, label in LABELLED:
        path = args.data / f"{name}.h5ad"
        if not path.exists() or (args.sets and name not in args.sets):
            continue
        counts, groups, offsets = _labelled(path, label)
        for method in ("PLN-LDA", "PLN-LDA, mean-field", "LDA of CLR", "LDA of log counts"):
            start, scores, log_probs = time.perf_counter(), [], []
            for repeat in range(REPEATS):
                folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat)
                probabilities = np.empty((len(groups), groups.max() + 1))
                for train, test in folds.split(counts, groups):
                    probabilities[test] = _predicted(method, counts, groups, offsets, train, test, args.threads)
                scores.append(balanced_accuracy_score(groups, probabilities.argmax(1)))
                log_probs.append(np.log(np.maximum(probabilities[np.arange(len(groups)), groups], 1e-12)).mean())
            score = f"{np.mean(scores):.3f} ± {np.std(scores):.3f}"
            seconds = time.perf_counter() - start
            print(f"| {name} | {label} | {method} | {score} | {np.mean(log_probs):.2f} | {seconds:.1f} |", flush=True)


def _labelled(path: Path, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, label and log total of samples."""
    adata = ad.read_h5ad(path)
    counts = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    offsets = np.log(np.maximum(counts.sum(1), 1))
    kept = np.sort(np.argsort(-counts.sum(0))[:MOST_GENES])
    cells = np.random.default_rng(0).permutation(len(counts))[:MOST_CELLS]
    cells = np.sort(cells[counts[cells].sum(1) > 0])
    groups = np.unique(adata.obs[label].astype(str).to_numpy()[cells], return_inverse=True)[1]
    return counts[cells][:, kept].astype(float), groups, offsets[cells] - offsets[cells].mean()


def _predicted(
    method: str,
    counts: np.ndarray,
    groups: np.ndarray,
    offsets: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    threads: int,
) -> np.ndarray:
    """Probabilities of the labels of samples that were held out."""
    if method.startswith("PLN"):
        data = [CountData(counts[each], offsets[each], np.ones((len(each), 1))) for each in (train, test)]
        weights = np.bincount(groups[train]) / len(train)
        posterior = "meanfield" if "mean" in method else "fullrank"
        settings = {"posterior": posterior, "n_threads": threads}
        mixture, _ = fit_pln_groups(data[0], COVARIANCES["full"](counts.shape[1]), groups[train], weights, **settings)
        return infer_pln_mixture(data[1], mixture, **settings).responsibilities
    values = np.log1p(counts)
    values = values - (values.mean(1, keepdims=True) if "CLR" in method else offsets[:, None])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of collinear columns
        fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values[train], groups[train])
    return fitted.predict_proba(values[test])


if __name__ == "__main__":
    main()
