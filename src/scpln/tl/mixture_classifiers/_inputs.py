"""Rows, labels, covariates and groups of annotated data, as a mixture classifier takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scpln.data import as_list, check_adata, get_column, get_matrix
from scpln.inference.classifiers import ComponentsName, centred_log_ratio
from scpln.utils import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

#: Added to counts before logarithms.
_PSEUDO_COUNT = 0.5


def read_rows(
    adata: AnnData, use_rep: str | None, layer: str | None, components: ComponentsName | None
) -> tuple[pd.DataFrame, ComponentsName]:
    """Rows with names of the columns, and the family of components: by default Gaussian of an embedding, and Dirichlet-multinomial of counts.

    Of counts, Gaussian components get centred log-ratios of counts + 0.5, and Dirichlet components shares.

    Raises
    ------
    ValueError, KeyError
        There is no such matrix, both are named, values are missing, a row has no counts, or two columns have one name.
    """
    check_adata(adata)
    if not adata.var_names.is_unique and use_rep is None:
        msg = "adata.var_names are not unique, and coefficients have their names. Run `adata.var_names_make_unique()`."
        raise ValueError(msg)
    if components is not None:
        one_of("components", components, get_args(ComponentsName))
    if use_rep is not None and layer is not None:
        msg = f"use_rep={use_rep!r} and layer={layer!r} both say where rows are. Pass one of them."
        raise ValueError(msg)
    if use_rep is not None:
        if use_rep not in adata.obsm:
            msg = f"adata.obsm has no {use_rep!r} (use_rep); it has {list(adata.obsm)}. Pass one of these, or layer= for counts."
            raise KeyError(msg)
        table = _frame(adata.obsm[use_rep], use_rep, adata)
        return _finite(table, f"adata.obsm[{use_rep!r}]"), components or "gaussian"
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    table = _finite(pd.DataFrame(_dense(get_matrix(adata, layer)), adata.obs_names, adata.var_names.astype(str)), where)
    counts = table.to_numpy()
    chosen: ComponentsName = components or "dirichlet_multinomial"
    if (counts < 0).any() or (counts != np.floor(counts)).any():
        msg = (
            f"{where} has values that are not counts. Pass layer= with counts, or use_rep= with an embedding, such as "
            "use_rep='X_plnpca', or with proportions and components='dirichlet'."
        )
        raise ValueError(msg)
    empty = adata.obs_names[counts.sum(1) == 0]
    if len(empty):
        msg = (
            f"{len(empty):,} rows of {where} have no counts, such as {str(empty[0])!r}. Leave them out: "
            "`adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()`."
        )
        raise ValueError(msg)
    if chosen == "gaussian":
        table[:] = centred_log_ratio(counts, _PSEUDO_COUNT)
    elif chosen == "dirichlet":
        table[:] = counts / counts.sum(1, keepdims=True)
    return table, chosen


def read_labels(adata: AnnData, key: str, unlabeled_category: str | None) -> NDArray[np.object_]:
    """Labels as text, None where one is missing.

    Raises
    ------
    ValueError
        There is no such column, it has measurements, or no row has the category of those without a label.
    """
    column = get_column(adata.obs, key, "labels_key")
    if column.dtype.kind == "f" and (column.dropna() % 1 != 0).any():
        msg = f"adata.obs[{key!r}] (labels_key) has numbers that are not whole, and labels are classes. Divide it into some: `pandas.cut(adata.obs[{key!r}], 2)`."
        raise ValueError(msg)
    unlabeled = (column.astype(str) == unlabeled_category).to_numpy()
    if unlabeled_category is not None and not unlabeled.any():
        found = sorted(column.dropna().astype(str).unique())
        msg = f"unlabeled_category={unlabeled_category!r}, but no row of adata.obs[{key!r}] has {unlabeled_category!r}: it has {found[:10]}. Pass one of these, or leave it out."
        raise ValueError(msg)
    missing = column.isna().to_numpy() | unlabeled
    labels = column.astype(str).to_numpy(dtype=object)
    labels[missing] = None
    return labels


def read_covariates(adata: AnnData, keys: str | Sequence[str] | None, labels_key: str) -> pd.DataFrame | None:
    """Numbers as they are, and indicators of the categories but the first.

    Raises
    ------
    ValueError
        There is no such column, it is that of the labels, or it has missing or infinite values, or one value.
    """
    names = as_list(keys)
    if not names:
        return None
    if labels_key in names:
        msg = f"{labels_key!r} is both labels_key and among covariate_keys: labels would be predicted from themselves. Leave it out of covariate_keys."
        raise ValueError(msg)
    columns = {name: get_column(adata.obs, name, "covariate_keys") for name in names}
    for name, column in columns.items():
        if column.isna().any():
            msg = f"adata.obs[{name!r}] (covariate_keys) has {column.isna().sum():,} missing values. Fill them, or leave these rows or the column out."
            raise ValueError(msg)
        if column.dtype.kind == "f" and np.isinf(column).any():
            msg = f"adata.obs[{name!r}] (covariate_keys) is infinite in {np.isinf(column).sum():,} rows. Put numbers in their place, or leave these rows or the column out."
            raise ValueError(msg)
        if column.nunique() < 2:
            msg = f"adata.obs[{name!r}] (covariate_keys) has one value, {str(column.iloc[0])!r}. Leave it out: it says nothing of labels."
            raise ValueError(msg)
    table = pd.DataFrame(
        {
            name: column.to_numpy() if column.dtype.kind in "iuf" else column.astype(str)
            for name, column in columns.items()
        },
        adata.obs_names,
    )
    return pd.get_dummies(table, drop_first=True, dtype=float).astype(float)


def read_groups(adata: AnnData, key: str) -> NDArray[np.object_]:
    """Groups, such as donors, as text.

    Raises
    ------
    ValueError
        There is no such column, or a row has no group.
    """
    column = get_column(adata.obs, key, "cv_key")
    if column.isna().any():
        msg = f"adata.obs[{key!r}] (cv_key) has {column.isna().sum():,} missing values. Give every row a donor, or leave these rows out."
        raise ValueError(msg)
    return column.astype(str).to_numpy(dtype=object)


def _frame(values: Any, name: str, adata: AnnData) -> pd.DataFrame:
    if isinstance(values, pd.DataFrame):
        return values.astype(float).set_axis(values.columns.astype(str), axis=1)
    array = _dense(values)
    stem = name.removeprefix("X_")
    return pd.DataFrame(array, adata.obs_names, [f"{stem}{number}" for number in range(1, array.shape[1] + 1)])


def _dense(values: Any) -> NDArray[np.float64]:
    if not isinstance(values, np.ndarray) and hasattr(values, "to_memory"):
        values = values.to_memory()
    return np.array(values.toarray() if sp.issparse(values) else values, dtype=float)


def _finite(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table, or an error that names a row with a missing value."""
    wrong = ~np.isfinite(table.to_numpy()).all(1)
    if wrong.any():
        msg = f"{where} has values that are missing or infinite in {wrong.sum():,} rows, such as {str(table.index[wrong][0])!r}. Leave these rows out, or fill them."
        raise ValueError(msg)
    return table
