"""Parts of the cells that are held out in turn, with labels in proportion, or groups whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import GroupKFold

from scpln.data import get_column

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Most cells that are held out in turn; of more, some are drawn.
MOST_HELD_OUT = 20_000
#: Parts.
N_FOLDS = 5
#: Fewest cells that calibrate.
FEWEST = 20


def read_groups(obs: pd.DataFrame, cv_key: str | None) -> NDArray[np.int64] | None:
    """Code of each cell's group, such as a donor.

    Raises
    ------
    ValueError
        There is no such column, or it is missing for some cells.
    """
    if cv_key is None:
        return None
    column = get_column(obs, cv_key, "cv_key")
    if column.isna().any():
        msg = f"adata.obs[{cv_key!r}] (cv_key) has {column.isna().sum():,} missing values. Give every cell a group, such as a donor, or leave these cells out."
        raise ValueError(msg)
    return column.astype(str).astype("category").cat.codes.to_numpy(np.int64)


def some_cells(n: int, seed: int) -> NDArray[np.intp]:
    """All of n cells, or 20,000 of more."""
    if n <= MOST_HELD_OUT:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, MOST_HELD_OUT, replace=False))


def check_enough(n: int) -> None:
    """Refuse to calibrate with so few cells."""
    if n < FEWEST:
        msg = f"Calibration needs {FEWEST} cells with labels or more, and there are {n}. Pass more, or train with calibrate=False."
        raise ValueError(msg)


def parts_to_judge(
    codes: NDArray[np.intp], groups: NDArray[np.int64] | None, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Cells to learn from and cells to predict, part by part; without cells of labels that the former lack.

    Raises
    ------
    ValueError
        There is one group, or fewer than 20 cells can be predicted.
    """
    check_enough(len(codes))
    fold, parts = fold_of_cells(codes, groups, N_FOLDS, seed), []
    for number in np.unique(fold):
        kept = np.flatnonzero(fold != number)
        parts.append((kept, np.flatnonzero((fold == number) & np.isin(codes, codes[kept]))))
    n_judged = sum(len(out) for _, out in parts)
    if n_judged < FEWEST:
        msg = f"Calibration needs {FEWEST} cells whose labels some cells that are not held out with them have, too, and there are {n_judged}. Name a cv_key whose groups share labels, or leave it out."
        raise ValueError(msg)
    return [(kept, out) for kept, out in parts if len(out)]


def fold_of_cells(
    codes: NDArray[np.intp], groups: NDArray[np.int64] | None, n_folds: int, seed: int
) -> NDArray[np.intp]:
    """Number of the part that each cell is in (n).

    Raises
    ------
    ValueError
        There is one group.
    """
    if groups is None:
        shuffled = np.random.default_rng(seed).permutation(len(codes))
        by_label = shuffled[np.argsort(codes[shuffled], kind="stable")]
        fold = np.empty(len(codes), dtype=np.intp)
        fold[by_label] = np.arange(len(codes)) % n_folds
        return fold
    number = min(n_folds, len(np.unique(groups)))
    if number < 2:
        msg = "cv_key= has one group of cells with labels, and none is left to learn from when it is held out. Leave it out, or name a column with several groups."
        raise ValueError(msg)
    fold = np.empty(len(codes), dtype=np.intp)
    for part, (_, out) in enumerate(GroupKFold(number).split(codes, groups=groups)):
        fold[out] = part
    return fold
