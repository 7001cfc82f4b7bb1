"""Columns of obs that a design is made of: categories as text, and finite numbers."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scpln.data.categories import Coding, match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Largest size of the numbers in a column, and one over the smallest, whose products can be computed.
LARGEST_NUMBER = 1e50
#: So many categories are refused where most of them have a single cell.
MANY = 100
#: Roundings of its largest number within which a column is constant.
_ROUNDINGS = 8


def as_list(values: Any) -> list[Any]:
    """Names or other values as a list: none, one, or several.

    Examples
    --------
    >>> as_list(None), as_list("batch"), as_list(1), as_list(("a", "b"))
    ([], ['batch'], [1], ['a', 'b'])
    """
    if values is None:
        return []
    return [values] if isinstance(values, str | bytes) or not isinstance(values, Iterable) else list(values)


def get_column(obs: pd.DataFrame, key: str, argument: str) -> pd.Series:
    """Column `key` of obs, or an error that names the argument and the nearest column."""
    if not isinstance(key, str):
        msg = f"{argument}={key!r}, but it must be the name of one column of obs, as text, or None."
        raise TypeError(msg)
    if key not in obs.columns:
        columns = [str(column) for column in obs.columns]
        near = get_close_matches(str(key), columns, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        msg = f"adata.obs has no column {key!r} ({argument}). {hint}Its columns are {columns}."
        raise ValueError(msg)
    column = obs[key]
    if isinstance(column, pd.DataFrame):
        msg = (
            f"adata.obs has {column.shape[1]} columns named {key!r} ({argument}), and it is not said which. Rename them: "
            "`adata.obs.columns = ...`."
        )
        raise ValueError(msg)
    return column


def get_coding(obs: pd.DataFrame, key: str, argument: str, *, missing: str | None = None) -> Coding:
    """A column as codes of its categories; an error for missing values that ends in what to do, unless they may be."""
    column = get_column(obs, key, argument)
    coding = Coding.of(column)
    empty = np.flatnonzero(coding.codes < 0)
    if missing is not None and len(empty):
        name = "missing" if "missing" not in coding.categories else "no value"
        msg = (
            f"adata.obs[{key!r}] ({argument}) is missing (NaN) for {len(empty):,} of {len(column):,} cells, "
            f"first for {column.index[empty[0]]!r}. {missing}`adata.obs[{key!r}] = adata.obs[{key!r}].astype(object).fillna({name!r})`."
        )
        raise ValueError(msg)
    return coding


def check_categories(coding: Coding, key: str, argument: str) -> None:
    """Refuse categories that are one and the same as text, and a column that is none of categories but of numbers or names."""
    n_known, n_cells = len(coding.categories), int(coding.sizes.sum())
    if n_known > MANY and 2 * n_known > n_cells:
        msg = (
            f"adata.obs[{key!r}] ({argument}) has {n_known:,} categories for {n_cells:,} cells, such as "
            f"{coding.categories[0]!r}: too few cells each to learn anything about them. Numbers go into "
            "continuous_covariate_keys; leave out what only names cells."
        )
        raise ValueError(msg)
    if len(set(coding.categories)) < len(coding.categories):
        msg = (
            f"adata.obs[{key!r}] ({argument}) has categories that read the same as text: {coding.categories}. "
            "Rename them."
        )
        raise ValueError(msg)


def get_categories(obs: pd.DataFrame, key: str, argument: str) -> list[str]:
    """Categories that occur in a column, as text: in their order if it is categorical, sorted otherwise."""
    coding = get_coding(obs, key, argument, missing="Fill them in, or make them a category of their own: ")
    check_categories(coding, key, argument)
    return coding.categories


def get_codes(obs: pd.DataFrame, key: str, argument: str, categories: Sequence[str]) -> NDArray[np.int64]:
    """Position of each cell's category among the known `categories`; an error for one that is not among them."""
    coding = get_coding(obs, key, argument, missing="Fill them in: ")
    codes = coding.codes_among(categories)
    if (codes < 0).any():
        unseen = sorted({coding.categories[code] for code in np.unique(coding.codes[codes < 0])})
        msg = (
            f"adata.obs[{key!r}] ({argument}) has categories that the model was not trained on: {unseen}. "
            f"It knows {list(categories)}. Its coefficients for another one are unknown: estimate them with "
            f"load_query_data(adata, model), or map these cells to a known category."
        )
        raise ValueError(msg)
    return codes


def new_categories(obs: pd.DataFrame, key: str, argument: str, known: Sequence[str]) -> list[str]:
    """Categories of a column that are not among the known ones."""
    categories = get_categories(obs, key, argument)
    return [category for category, code in zip(categories, match(categories, known), strict=True) if code < 0]


def get_numbers(obs: pd.DataFrame, key: str, argument: str) -> NDArray[np.float64]:
    """A numeric column, every value finite."""
    column = get_column(obs, key, argument)
    is_number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype)
    if not (is_number or pd.api.types.is_bool_dtype(column.dtype)):
        remedy = (
            f"Write C({key}) if it is categories" if argument == "design" else "Pass it in categorical_covariate_keys"
        )
        msg = (
            f"adata.obs[{key!r}] ({argument}) is not numeric but {column.dtype}. "
            f"{remedy}, or convert it with pd.to_numeric."
        )
        raise ValueError(msg)
    values = column.to_numpy(dtype=float, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        msg = (
            f"adata.obs[{key!r}] ({argument}) is NaN or infinite for {len(bad):,} of {len(values):,} cells, "
            f"first for {obs.index[bad[0]]!r}. Fill these values in, or leave these cells out."
        )
        raise ValueError(msg)
    largest = int(np.abs(values).argmax()) if len(values) else 0
    if len(values) and values[largest] != 0 and not 1 / LARGEST_NUMBER <= abs(values[largest]) <= LARGEST_NUMBER:
        msg = (
            f"adata.obs[{key!r}] ({argument}) is up to {values[largest]:.6g} in size, for {obs.index[largest]!r}, and squares of "
            f"that cannot be computed: it must be from {1 / LARGEST_NUMBER:.0e} to {LARGEST_NUMBER:.0e}. Give it in another unit."
        )
        raise ValueError(msg)
    return values


def scale_of(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation, which is infinite, so that nothing is left, where numbers are equal up to rounding."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest > 0 or np.ptp(values / largest) <= _ROUNDINGS * np.finfo(float).eps:
        return 0.0, np.inf
    center = largest * float((values / largest).mean())
    reach = float(np.abs(values - center).max())
    return center, reach * float(np.sqrt(np.mean(((values - center) / reach) ** 2)))
