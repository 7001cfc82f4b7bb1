"""How many components a mixture classifier has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from scpln.inference.classifiers import MISSING, bic, icl, log_class_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from scpln.inference.classifiers import ClassifierData, Run, Scaling

    from ._data import Rows
    from ._fitter import Fitter

Criterion = Literal["bic", "icl", "held_out"]
#: Folds of held-out rows.
N_FOLDS = 5


def folds(
    labels: NDArray, groups: NDArray | None, n_folds: int, seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit and rows to hold out, with classes in proportion, and groups whole.

    Parameters
    ----------
    labels
        Codes of classes; rows with a missing one are never held out.
    groups
        Of the rows, such as donors, each of which is held out as a whole.
    n_folds
        Most folds; there are no more than groups, or than rows of the rarest class, or, with groups, of the most frequent one.
    seed
        Of the folds.

    Raises
    ------
    ValueError
        There is one group, or one row of a class.
    """
    known = np.flatnonzero(labels != MISSING)
    codes = labels[known]
    most = int(np.bincount(codes)[np.unique(codes)].min()) if groups is None else len(np.unique(groups[known]))
    number = min(n_folds, most, int(np.bincount(codes).max()))
    if number < 2:
        what = "a class has one row" if groups is None else "all rows with a label are of one group"
        msg = f"Nothing can be held out: {what}. Pass data with more, or no cross-validation."
        raise ValueError(msg)
    split = StratifiedKFold if groups is None else StratifiedGroupKFold
    maker = split(n_splits=number, shuffle=True, random_state=seed)
    within = None if groups is None else groups[known]
    for _, held in maker.split(np.zeros(len(known)), codes, within):
        out = known[held]
        if groups is None:
            rest = np.setdiff1d(np.arange(len(labels)), out)
        else:  # rows of these groups without a label would tell of them, too
            rest = np.flatnonzero(~np.isin(groups, groups[out]))
        yield rest, out


def choose(
    rows: Rows, numbers: Sequence[int], criterion: Criterion, fitter: Fitter
) -> tuple[pd.DataFrame, tuple[Run, ClassifierData, Scaling]]:
    """A table of criteria by number of components, and the best fit by one of them.

    Returns
    -------
    Table with a row for each number: ``log_likelihood`` and ``n_parameters``, ``bic`` and ``icl`` (less is better), and ``held_out``, the mean log p(y | x) of rows
    that were held out, nats (more is better), where that decides.
    """
    held_out = _held_out(rows, numbers, fitter) if criterion == "held_out" else None
    fits = {k: fitter.fit(rows, k) for k in numbers}
    total = float(rows.weights.sum())
    found = []
    for k, (run, data, _) in fits.items():
        n_parameters = run.parameters.n_parameters
        found.append(
            {
                "n_components": k,
                "n_left": run.parameters.n_components,
                "log_likelihood": run.log_likelihood,
                "n_parameters": n_parameters,
                "bic": bic(run.log_likelihood, n_parameters, total),
                "icl": icl(run.log_likelihood, n_parameters, data.weights, run.responsibilities),
                "converged": run.converged,
            }
        )
    table = pd.DataFrame(found).set_index("n_components")
    if held_out is not None:
        table["held_out"] = held_out
    better = table[criterion] if criterion == "held_out" else -table[criterion]
    whole = table["n_left"] == table.index  # where components were lost, the number that is left has a fit of its own
    return table, fits[int(better[whole].idxmax())]


def _held_out(rows: Rows, numbers: Sequence[int], fitter: Fitter) -> list[float]:
    """Mean log p(y | x) of held-out rows for each number of components, nats."""
    sums, weight = np.zeros(len(numbers)), 0.0
    for kept, out in folds(rows.codes, rows.groups, N_FOLDS, fitter.options.seed):
        some, others = rows.subset(kept), rows.subset(out)
        for place, k in enumerate(numbers):
            run, _, scaling = fitter.fit(some, min(k, len(some)))
            log_p = log_class_probabilities(run.parameters, fitter.data(others, scaling))
            sums[place] += others.weights @ log_p[np.arange(len(others)), others.codes]
        weight += float(others.weights.sum())
    return list(sums / weight)
