"""The design matrix X: an intercept, batch and categorical covariates against their first category, and numbers on one scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

INTERCEPT = "(Intercept)"
_REDUNDANT = 1e-8
#: Roundings of its largest number within which a column is constant.
_ROUNDINGS = 8


def as_list(keys: Sequence[str] | str | None) -> list[str]:
    """Keys as a list: none, one, or several."""
    if keys is None:
        return []
    return [keys] if isinstance(keys, str) else list(keys)


def get_column(obs: pd.DataFrame, key: str, argument: str) -> pd.Series:
    """Column `key` of obs, or an error that names the argument and the nearest column."""
    if key not in obs.columns:
        columns = [str(column) for column in obs.columns]
        near = get_close_matches(str(key), columns, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        msg = f"adata.obs has no column {key!r} ({argument}). {hint}Its columns are {columns}."
        raise ValueError(msg)
    return obs[key]


def get_categories(obs: pd.DataFrame, key: str, argument: str) -> list[str]:
    """Categories that occur in a column, as text: in their order if it is categorical, sorted otherwise."""
    column = get_column(obs, key, argument)
    _check_no_missing(column, argument, "Fill them in, or make them a category of their own: ")
    present = column.astype("category").cat.remove_unused_categories().cat.categories
    categories = [str(category) for category in present]
    if len(set(categories)) < len(categories):
        msg = f"adata.obs[{key!r}] ({argument}) has categories that read the same as text: {categories}. Rename them."
        raise ValueError(msg)
    return categories


def get_codes(obs: pd.DataFrame, key: str, argument: str, categories: Sequence[str]) -> NDArray[np.int64]:
    """Position of each cell's category among the known `categories`; an error for one that is not among them."""
    column = get_column(obs, key, argument)
    _check_no_missing(column, argument, "Fill them in: ")
    codes = pd.Index(categories).get_indexer(pd.Index(column.astype(str)))
    if (codes < 0).any():
        unseen = sorted(set(column.astype(str)) - set(categories))
        msg = (
            f"adata.obs[{key!r}] ({argument}) has categories that the model was not trained on: {unseen}. "
            f"It knows {list(categories)}. Its coefficients for another one are unknown: estimate them with "
            f"load_query_data(adata, model), or map these cells to a known category."
        )
        raise ValueError(msg)
    return codes.astype(np.int64)


def new_categories(obs: pd.DataFrame, key: str, argument: str, known: Sequence[str]) -> list[str]:
    """Categories of a column that are not among the known ones."""
    return [category for category in get_categories(obs, key, argument) if category not in known]


def get_numbers(obs: pd.DataFrame, key: str, argument: str) -> NDArray[np.float64]:
    """A numeric column, every value finite."""
    column = get_column(obs, key, argument)
    if not (pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)):
        msg = (
            f"adata.obs[{key!r}] ({argument}) is not numeric but {column.dtype}. "
            "Pass it in categorical_covariate_keys, or convert it with pd.to_numeric."
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
    return values


def _check_no_missing(column: pd.Series, argument: str, remedy: str) -> None:
    missing = np.flatnonzero(column.isna())
    if len(missing):
        code = f"adata.obs[{column.name!r}].astype(str)"
        msg = (
            f"adata.obs[{column.name!r}] ({argument}) is missing (NaN) for {len(missing):,} of {len(column):,} cells, "
            f"first for {column.index[missing[0]]!r}. {remedy}`adata.obs[{column.name!r}] = {code}`."
        )
        raise ValueError(msg)


@dataclass(frozen=True)
class Design:
    """What the columns of X are, learned once from the training cells.

    Parameters
    ----------
    factors
        Categories of each categorical key, its reference category first.
    numbers
        Keys of continuous covariates.
    arguments
        Which argument of `setup_anndata` each key came from.
    scales
        Mean and standard deviation in the training cells of each of the numbers, which X has less the one and divided by
        the other: a year, or seconds since 1970, are then like any other number to what solves for coefficients, in
        float32 too. Models of earlier versions have none, and numbers as they are given.

    Examples
    --------
    >>> obs = pd.DataFrame({"batch": ["b", "a", "b"], "age": [1.0, 2.0, 5.0]})
    >>> design = Design.learn(obs, batch_key="batch", continuous_covariate_keys=["age"])
    >>> design.names
    ['(Intercept)', 'batch[T.b]', 'age']
    >>> design.matrix(obs).round(3)
    array([[ 1.   ,  1.   , -0.981],
           [ 1.   ,  0.   , -0.392],
           [ 1.   ,  1.   ,  1.373]])
    """

    factors: dict[str, list[str]]
    numbers: list[str]
    arguments: dict[str, str]
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def learn(
        cls,
        obs: pd.DataFrame,
        *,
        batch_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
    ) -> Self:
        """Read categories of keys and scales of numbers, and check that no column of X follows from the others."""
        factors = [(key, "batch_key") for key in as_list(batch_key)]
        factors += [(key, "categorical_covariate_keys") for key in as_list(categorical_covariate_keys)]
        numbers = as_list(continuous_covariate_keys)
        arguments: dict[str, str] = {}
        for key, argument in [*factors, *((key, "continuous_covariate_keys") for key in numbers)]:
            if key in arguments:
                msg = f"{key!r} is given twice, in {arguments[key]} and in {argument}. Keep one."
                raise ValueError(msg)
            arguments[key] = argument
        categories = {key: get_categories(obs, key, argument) for key, argument in factors}
        scales = {key: _scale(get_numbers(obs, key, arguments[key])) for key in numbers}
        design = cls(categories, numbers, arguments, scales)
        design._check_rank(obs)
        return design

    @property
    def names(self) -> list[str]:
        """Names of the d columns of X."""
        dummies = [f"{key}[T.{category}]" for key, known in self.factors.items() for category in known[1:]]
        return [INTERCEPT, *dummies, *self.numbers]

    def matrix(self, obs: pd.DataFrame, fixed: Mapping[str, str] | None = None) -> NDArray[np.float64]:
        """X (n × d) of the given cells; `fixed` puts all of them into one category of a key."""
        fixed = fixed or {}
        columns = [np.ones(len(obs))]
        for key, known in self.factors.items():
            if key in fixed:
                codes = np.full(len(obs), self.code(key, fixed[key]))
            else:
                codes = get_codes(obs, key, self.arguments[key], known)
            columns += [(codes == code).astype(float) for code in range(1, len(known))]
        for key in self.numbers:
            center, spread = self.scales.get(key, (0.0, 1.0))
            columns.append((get_numbers(obs, key, self.arguments[key]) - center) / spread)
        return np.column_stack(columns)

    def in_units(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (p, d) of numbers in the units of their columns of obs, from those of X.

        Examples
        --------
        >>> design = Design.learn(pd.DataFrame({"year": [2019.0, 2021.0]}), continuous_covariate_keys=["year"])
        >>> design.in_units(np.array([[3.0, 0.5]]))
        array([[-1.007e+03,  5.000e-01]])
        """
        result = coefficients.astype(np.float64)
        for column, key in enumerate(self.numbers, start=len(self.names) - len(self.numbers)):
            center, spread = self.scales.get(key, (0.0, 1.0))
            result[:, column] /= spread
            result[:, 0] -= result[:, column] * center
        return result

    def extended(self, obs: pd.DataFrame) -> Self:
        """The same design with the categories that `obs` has and this lacks, after the known ones of each key.

        Examples
        --------
        >>> design = Design.learn(pd.DataFrame({"batch": ["a", "b"]}), batch_key="batch")
        >>> design.extended(pd.DataFrame({"batch": ["c", "b"]})).names
        ['(Intercept)', 'batch[T.b]', 'batch[T.c]']
        """
        factors = {
            key: [*known, *new_categories(obs, key, self.arguments[key], known)] for key, known in self.factors.items()
        }
        return replace(self, factors=factors)

    def columns_of(self, key: str) -> list[int]:
        """Positions of a key's columns, one for each category but the first."""
        start = 1
        for other, known in self.factors.items():
            if other == key:
                return list(range(start, start + len(known) - 1))
            start += len(known) - 1
        raise KeyError(key)

    def code(self, key: str, category: str) -> int:
        """Position of a category of a key."""
        if str(category) not in self.factors[key]:
            msg = f"{category!r} is not a category of {key!r}; the model knows {self.factors[key]}."
            raise ValueError(msg)
        return self.factors[key].index(str(category))

    def _check_rank(self, obs: pd.DataFrame) -> None:
        """Coefficients of a column that follows from the ones before it could be anything."""
        x = self.matrix(obs)
        length = np.linalg.norm(x, axis=0)
        residual = np.zeros(x.shape[1])
        diagonal = np.abs(np.diagonal(np.linalg.qr(x / np.where(length > 0, length, 1), mode="r")))
        residual[: len(diagonal)] = diagonal
        redundant = [name for name, left in zip(self.names, residual, strict=True) if left < _REDUNDANT]
        if redundant:
            msg = (
                f"The coefficients of {redundant} cannot be told from the others: in these {len(obs):,} cells, the "
                "columns before them in the design (intercept, batch_key, categorical_covariate_keys, "
                "continuous_covariate_keys, in this order) determine them, as when every batch belongs to one "
                "condition. Leave out the key that is contained in another."
            )
            raise ValueError(msg)

    def to_state(self) -> dict[str, Any]:
        """Plain values, for the registry and its JSON."""
        return {
            "factors": self.factors,
            "numbers": self.numbers,
            "arguments": self.arguments,
            "scales": {key: list(scale) for key, scale in self.scales.items()},
            "names": self.names,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The design described by `to_state`."""
        scales = {key: tuple(scale) for key, scale in state.get("scales", {}).items()}
        return cls(state["factors"], state["numbers"], state["arguments"], scales)


def _scale(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation, which is infinite, so that nothing is left, where numbers are equal up to rounding."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest > 0 or np.ptp(values / largest) <= _ROUNDINGS * np.finfo(float).eps:
        return 0.0, np.inf
    center = largest * float((values / largest).mean())
    reach = float(np.abs(values - center).max())
    return center, reach * float(np.sqrt(np.mean(((values - center) / reach) ** 2)))
