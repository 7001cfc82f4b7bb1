"""A condition predicted by mixture classifiers, beside ridge logistic regression: libraries, cells of donors, and gut studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from composition_report import table
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tree import CASES, log_ratios, read_study

import scpln
from scpln.model.mixture_classifier import folds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import anndata as ad
    from sklearn.pipeline import Pipeline

#: Libraries that are held out together, two of each, and starts of a mixture.
FOLDS, STARTS = 8, 3
#: Standard deviations of the prior of coefficients of a mixture: its default, and one for many columns.
PRIOR_SCALES = (2.5, 0.1)


def ridge() -> Pipeline:
    """Logistic regression of features on one scale, its penalty by cross-validation."""
    return make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(Cs=10, class_weight="balanced", max_iter=2000, scoring="neg_log_loss", cv=3),
    )


def scores(is_case: np.ndarray, p: np.ndarray) -> list[float]:
    """AUROC, balanced accuracy, and mean log-probability of the label, nats."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return [
        float(roc_auc_score(is_case, p)),
        float(balanced_accuracy_score(is_case, p > 0.5)),
        -float(log_loss(is_case, p)),
    ]


def classify_samples(counts: ad.AnnData, halved: Callable[[ad.AnnData, str, int], ad.AnnData], sets: int) -> None:
    """Sixteen libraries, of which eight have half of the cells of some types."""
    rows = []
    for change in ("nothing", "L2/3 IT", "subclass Pvalb"):
        found: dict[str, list[list[float]]] = {"mixture": [], "ridge": []}
        for seed in range(sets):
            some = halved(counts, change, seed)
            is_case = (some.obs["condition"] == "case").to_numpy()
            model = scpln.tl.mixture_classifier(
                some, "condition", cv_key="batch", n_folds=FOLDS, max_components=2, n_init=STARTS
            )
            case = list(model.classes_).index("case")
            found["mixture"].append(scores(is_case, some.obsm["mixture_probs"][:, case]))
            features, p = log_ratios(np.asarray(some.X)), np.empty(len(is_case))
            for kept, out in folds(is_case.astype(int), np.arange(len(is_case)), FOLDS, 0):
                p[out] = ridge().fit(features[kept], is_case[kept]).predict_proba(features[out])[:, 1]
            found["ridge"].append(scores(is_case, p))
        rows += [
            [change, name, len(values), *np.mean(values, 0).tolist(), float(np.std(values, 0)[0])]
            for name, values in found.items()
        ]
    table(
        ("halved", "classifier", "sets", "AUROC", "balanced accuracy", "log p(y | x)", "s.d. of AUROC over sets"), rows
    )


def classify_cells(cells: ad.AnnData) -> None:
    """Stimulated cells of one donor by a model of the other: embedding, components and classifiers know the first alone."""
    rows: list[list[Any]] = []
    for donor in sorted(cells.obs["donor"].unique()):
        is_new = (cells.obs["donor"] == donor).to_numpy()
        known, new = cells[~is_new].copy(), cells[is_new].copy()
        scpln.model.setup_anndata(known)
        model = scpln.model.PLNPCA(known, n_latent=10)
        model.train(progress=False)
        one, other = (model.get_latent_representation(some, space="expression") for some in (known, new))
        labels, truth = ((some.obs["condition"] == "stim").to_numpy() for some in (known, new))
        for name, k in (("one component", 1), ("K by BIC", None), ("K = 5, types", 5)):
            found = scpln.model.MixtureClassifier(k, max_components=8).fit(one, labels)
            rows.append(
                [donor, f"mixture, {name}", found.n_components_, *scores(truth, found.predict_proba(other)[:, 1])]
            )
        rows.append([donor, "ridge logistic", "", *scores(truth, ridge().fit(one, labels).predict_proba(other)[:, 1])])
    table(("donor held out", "classifier", "K", "AUROC", "balanced accuracy", "log p(y | x)"), rows)


def classify_studies(folder: Path, seeds: int = 5) -> None:
    """Cases of gut studies by genera, a quarter held out; subjects are not known."""
    rows: list[list[Any]] = []
    for study, case in CASES.items():
        adata = read_study(folder, study, "genus")
        is_case = adata.obs["disease"].str.split(";").map(lambda names, case=case: case in names).to_numpy()
        counts = np.asarray(adata.X)
        found: dict[str, list[list[float]]] = {}
        numbers: dict[str, list[int]] = {}
        for seed in range(seeds):
            train, test = next(StratifiedShuffleSplit(1, test_size=0.25, random_state=seed).split(counts, is_case))
            for scale in PRIOR_SCALES:
                name = f"mixture, prior_scale={scale}"
                model = scpln.model.MixtureClassifier(
                    components="dirichlet_multinomial", max_components=3, n_init=STARTS, prior_scale=scale
                ).fit(counts[train], is_case[train])
                numbers.setdefault(name, []).append(model.n_components_)
                found.setdefault(name, []).append(scores(is_case[test], model.predict_proba(counts[test])[:, 1]))
            linear = ridge().fit(log_ratios(counts[train]), is_case[train])
            p = linear.predict_proba(log_ratios(counts[test]))[:, 1]
            found.setdefault("ridge", []).append(scores(is_case[test], p))
        for name, values in found.items():
            spread = float(np.std(values, 0)[0])
            rows.append([study, name, *np.mean(values, 0).tolist(), spread, numbers.get(name, "")])
    table(("study", "classifier", "AUROC", "balanced accuracy", "log p(y | x)", "s.d. of AUROC", "K by BIC"), rows)
