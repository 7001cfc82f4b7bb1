"""Arrays that a mixture classifier is given, checked, and what is computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_array, column_or_1d

from scpln.inference.classifiers import MISSING, centred_log_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.inference.classifiers import ComponentsName

    Floats = NDArray[np.float64]

#: Added to counts before logarithms.
PSEUDO_COUNT = 0.5
#: How far from 1 a row of proportions may add up to.
_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Rows:
    """Rows as they are given, in one order whatever theirs was, equal ones as one row of their weights.

    So a weight of 2 is the row twice, to the last bit, and the order of rows does not matter.

    Attributes
    ----------
    x, covariates, codes, weights
        n × p, n × q, n and n.
    groups
        Numbers of groups of rows (n), if there are any.
    """

    x: Floats
    covariates: Floats
    codes: NDArray[np.intp]
    weights: Floats
    groups: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def merged(
        cls,
        x: Floats,
        covariates: Floats,
        codes: NDArray[np.intp],
        weights: Floats,
        groups: NDArray[np.intp] | None = None,
    ) -> Rows:
        """Sort rows of positive weight by a projection, and merge equal ones."""
        used = np.flatnonzero(weights > 0)
        parts = [x[used], covariates[used], codes[used, None]]
        if groups is not None:
            parts.append(groups[used, None])
        table = np.column_stack(parts)
        directions = np.random.default_rng(0).standard_normal(table.shape[1])
        place = np.ascontiguousarray(table * directions).sum(1)
        order = np.lexsort((table[:, 0], place))
        table, used = table[order], used[order]
        first = np.flatnonzero(np.r_[True, (table[1:] != table[:-1]).any(1)])
        kept = used[first]
        return cls(
            x[kept],
            covariates[kept],
            codes[kept],
            np.add.reduceat(weights[used], first),
            None if groups is None else groups[kept],
        )

    def subset(self, rows: NDArray) -> Rows:
        """Some of the rows."""
        groups = None if self.groups is None else self.groups[rows]
        return Rows(self.x[rows], self.covariates[rows], self.codes[rows], self.weights[rows], groups)


def check_rows(x: Floats, components: ComponentsName) -> None:
    """Refuse rows that a family has no density of.

    Raises
    ------
    ValueError
        Of a Dirichlet: negative values, zeros, or rows that do not add up to 1. Of counts: what is negative or not whole, or rows of zeros. Of both, one column.
    """
    if components == "gaussian":
        return
    if (x < 0).any():
        msg = (
            f"Negative values in data passed to MixtureClassifier: components={components!r} takes "
            f"{'proportions' if components == 'dirichlet' else 'counts'}. Pass components='gaussian' for such values."
        )
        raise ValueError(msg)
    if x.shape[1] < 2:
        msg = f"components={components!r} takes two columns or more, of which rows are shares, and X has one. Pass all parts of the rows."
        raise ValueError(msg)
    totals = x.sum(1)
    if components == "dirichlet":
        wrong = np.flatnonzero(np.abs(totals - 1) > _SUM_TOLERANCE)
        if len(wrong):
            msg = (
                f"components='dirichlet' takes proportions, and row {wrong[0]} of X adds up to {totals[wrong[0]]:.6g} ({len(wrong):,} rows do not add up to 1). "
                "Pass X / X.sum(1, keepdims=True), or counts with components='dirichlet_multinomial'."
            )
            raise ValueError(msg)
        if (x == 0).any():
            msg = (
                f"X has {(x == 0).sum():,} zeros, and a Dirichlet distribution gives them no density. Pass the counts with components='dirichlet_multinomial', "
                "or add 0.5 to the counts before they are divided by their sums."
            )
            raise ValueError(msg)
        return
    if (x != np.floor(x)).any():
        msg = (
            "components='dirichlet_multinomial' takes counts, and X has values that are not whole numbers. Pass counts, or components='dirichlet' for "
            "proportions, or 'gaussian' for an embedding."
        )
        raise ValueError(msg)
    if (totals == 0).any():
        rows = np.flatnonzero(totals == 0)
        msg = (
            f"{len(rows):,} rows of X have no counts, the first of them row {rows[0]}. Leave them out: X[X.sum(1) > 0]."
        )
        raise ValueError(msg)


def features_of(x: Floats, covariates: Floats, components: ComponentsName, *, own: bool) -> Floats:
    """Features of the classifiers, not scaled: those of x (itself; log-ratios of compositions) if `own`, and covariates."""
    if not own:
        return covariates
    if components == "dirichlet":
        x = centred_log_ratio(x)
    elif components == "dirichlet_multinomial":
        x = centred_log_ratio(x, PSEUDO_COUNT)
    return np.column_stack([x, covariates])


def check_labels(y: Any, n: int) -> tuple[NDArray, NDArray[np.intp]]:
    """Classes, and the code of each row's label, −1 where it is missing.

    Raises
    ------
    ValueError
        There are no labels, or not one for each row; or labels are not classes; or all are of one class.
    """
    if y is None:
        msg = "MixtureClassifier requires y to be passed, but the target y is None. Rows without a label have NaN or None in it."
        raise ValueError(msg)
    y = column_or_1d(y, warn=True)
    _check_length("y", len(y), n)
    missing = np.asarray(pd.isna(y))
    known = pd.Series(y[~missing]).infer_objects().to_numpy()  # numbers among which one is missing are objects
    if not len(known):
        msg = "y has no labels: all of them are missing. Name at least one row of each class."
        raise ValueError(msg)
    if known.dtype.kind == "f":
        assert_all_finite(known, input_name="y")
    check_classification_targets(known)
    classes = np.unique(known)
    if len(classes) < 2:
        msg = f"y has one class, {classes.tolist()[0]!r}, and a classifier needs two or more. Pass labels of another class too."
        raise ValueError(msg)
    codes = np.full(n, MISSING, dtype=np.intp)
    codes[~missing] = np.searchsorted(classes, known)
    return classes, codes


def codes_of(y: Any, classes: NDArray, n: int) -> NDArray[np.intp]:
    """Codes of labels among known classes, −1 where one is missing; of None, all are.

    Raises
    ------
    ValueError
        There is not one for each row, or a label is not among the classes.
    """
    codes = np.full(n, MISSING, dtype=np.intp)
    if y is None:
        return codes
    y = column_or_1d(y)
    _check_length("y", len(y), n)
    missing = np.asarray(pd.isna(y))
    unknown = ~missing & ~np.isin(y, classes)
    if unknown.any():
        msg = f"y has {y[unknown].tolist()[0]!r}, which is not among the classes {classes.tolist()}. Pass None where a label is not one of them."
        raise ValueError(msg)
    codes[~missing] = np.searchsorted(classes, y[~missing])
    return codes


def check_weights(sample_weight: Any, n: int) -> Floats:
    """Weights of rows; of None, all are 1.

    Raises
    ------
    ValueError
        There is not one for each row, one is negative or not finite, or all are 0.
    """
    if sample_weight is None:
        return np.ones(n)
    weights = np.asarray(sample_weight, dtype=float)
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.ndim != 1:
        msg = f"sample_weight has {weights.ndim} dimensions. Pass one number for each row of X."
        raise ValueError(msg)
    _check_length("sample_weight", len(weights), n)
    if not np.isfinite(weights).all() or (weights < 0).any():
        msg = "sample_weight has values that are negative or not finite. Pass 0 for rows that are not to count."
        raise ValueError(msg)
    if not weights.any():
        msg = "sample_weight is 0 for all rows. Sample weights must contain at least one non-zero number."
        raise ValueError(msg)
    return weights


def check_covariates(covariates: Any, n: int, expected: int | None = None) -> Floats:
    """Covariates as numbers (n × q); of None, no columns.

    Raises
    ------
    ValueError
        They are not finite numbers, not one row for each of X, or not as many columns as the model was fitted with.
    """
    if covariates is None:
        found = np.empty((n, 0))
    else:
        found = check_array(covariates, dtype=np.float64, ensure_min_features=0, input_name="covariates")
        _check_length("covariates", len(found), n)
    if expected is not None and found.shape[1] != expected:
        msg = f"covariates have {found.shape[1]} columns, and the model was fitted with {expected}. Pass the same ones."
        raise ValueError(msg)
    return found


def check_groups(groups: Any, n: int) -> NDArray[np.intp] | None:
    """Numbers of the groups of rows (n), if there are any.

    Raises
    ------
    ValueError
        There is not one for each row, or one is missing.
    """
    if groups is None:
        return None
    given = column_or_1d(groups)
    _check_length("groups", len(given), n)
    missing = int(pd.isna(given).sum())
    if missing:
        msg = f"groups has {missing:,} missing values. Give every row a group, or leave these rows out."
        raise ValueError(msg)
    return np.asarray(pd.factorize(given)[0])


def _check_length(name: str, length: int, n: int) -> None:
    if length != n:
        msg = f"{name} has {length:,} rows, and X has {n:,}. Pass one for each row of X."
        raise ValueError(msg)
