"""Predictions of rows by models that have not seen their donors, and how good these are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from scpln.model.mixture_classifier import folds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.model import MixtureClassifier

    Floats = NDArray[np.float64]

#: Draws of donors for intervals.
_DRAWS = 1000
#: Least probability of which a logarithm is taken: no label is impossible to a model that has not seen it.
_LEAST = 1e-6


@dataclass(frozen=True)
class HeldOut:
    """Probabilities of the labels of rows that were held out (n × C; NaN of rows that were not), scores by name, and components by fold."""

    probabilities: Floats
    scores: dict[str, Any]
    n_components: list[int]


def held_out(
    model: MixtureClassifier,
    rows: pd.DataFrame,
    labels: NDArray[np.object_],
    covariates: pd.DataFrame | None,
    groups: NDArray[np.object_],
    classes: NDArray,
    n_folds: int,
) -> HeldOut:
    """Fit without some of the groups, predict these, and so on; where K is chosen, anew in each fold.

    Raises
    ------
    ValueError
        There is one group, or rows of one class are left when some are held out.
    """
    known = np.array([label is not None for label in labels])
    codes = np.full(len(labels), -1)
    codes[known] = np.searchsorted(classes, labels[known].astype(classes.dtype))
    numbers = pd.factorize(groups)[0]
    found, sizes = np.full((len(rows), len(classes)), np.nan), []
    for kept, out in folds(codes, numbers, n_folds, 0):
        if len(np.unique(codes[kept][codes[kept] >= 0])) < 2:
            msg = (
                f"Without the donors {sorted(set(groups[out]))[:3]} only one class is left to learn from. Pass data with more donors of each class, or a "
                "larger n_folds."
            )
            raise ValueError(msg)
        some = None if covariates is None else covariates.iloc[kept]
        fold = clone(model).fit(rows.iloc[kept], labels[kept], covariates=some, groups=groups[kept])
        others = None if covariates is None else covariates.iloc[out]
        found[out] = 0.0
        place = np.searchsorted(classes, fold.classes_.astype(classes.dtype))
        found[np.ix_(out, place)] = fold.predict_proba(rows.iloc[out], others)
        sizes.append(int(fold.n_components_))
    used = codes >= 0
    return HeldOut(found, scores(found[used], codes[used], numbers[used]), sizes)


def scores(probabilities: Floats, codes: NDArray[np.intp], groups: NDArray[np.intp]) -> dict[str, Any]:
    """How good held-out predictions are, with intervals at 95 % by drawing groups.

    Returns
    -------
    ``accuracy``, ``balanced_accuracy`` (mean over classes of the share that is found) and ``log_prob`` (mean log p(y | x), nats), each with ``_interval``, ``auroc`` of two
    classes, and ``n_groups``.
    """
    n_groups, n_classes = int(groups.max()) + 1, probabilities.shape[1]
    confusion = np.zeros((n_groups, n_classes, n_classes))
    np.add.at(confusion, (groups, codes, probabilities.argmax(1)), 1)
    own = np.log(np.maximum(probabilities[np.arange(len(codes)), codes], _LEAST))
    log_prob = np.bincount(groups, own, minlength=n_groups)
    present = np.flatnonzero(confusion.sum((1, 2)))
    drawn = np.random.default_rng(0).multinomial(len(present), np.full(len(present), 1 / len(present)), size=_DRAWS)
    every = np.vstack([np.ones(len(present)), drawn])
    table = np.einsum("dg,gab->dab", every, confusion[present])
    n = table.sum((1, 2))
    right = np.diagonal(table, axis1=1, axis2=2)
    of_class = table.sum(2)
    with np.errstate(invalid="ignore"):
        found_share = np.where(of_class > 0, right / of_class, np.nan)
    values = {
        "accuracy": right.sum(1) / n,
        "balanced_accuracy": np.nanmean(found_share, axis=1),
        "log_prob": every @ log_prob[present] / n,
    }
    result: dict[str, Any] = {"n_groups": len(present)}
    for name, value in values.items():
        result[name] = float(value[0])
        result[f"{name}_interval"] = np.quantile(value[1:], [0.025, 0.975])
    if n_classes == 2 and len(np.unique(codes)) == 2:
        result["auroc"] = float(roc_auc_score(codes, probabilities[:, 1]))
    return result
