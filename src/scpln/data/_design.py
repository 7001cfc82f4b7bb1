"""The design matrix X: an intercept, batch and categorical covariates against their first category, and numbers on one scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from .categories import Coding, as_text, match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

INTERCEPT = "(Intercept)"
_REDUNDANT = 1e-8
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
    largest = int(np.abs(values).argmax()) if len(values) else 0
    if len(values) and values[largest] != 0 and not 1 / LARGEST_NUMBER <= abs(values[largest]) <= LARGEST_NUMBER:
        msg = (
            f"adata.obs[{key!r}] ({argument}) is up to {values[largest]:.6g} in size, for {obs.index[largest]!r}, and squares of "
            f"that cannot be computed: it must be from {1 / LARGEST_NUMBER:.0e} to {LARGEST_NUMBER:.0e}. Give it in another unit."
        )
        raise ValueError(msg)
    return values


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

    def matrix(self, obs: pd.DataFrame, fixed: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
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

    @property
    def average(self) -> NDArray[np.float64]:
        """The row of X (d,) of no cell in particular: half-way between all categories, at the means of numbers."""
        row = np.zeros(len(self.names))
        row[0] = 1
        for key, categories in self.factors.items():
            row[self.columns_of(key)] = 1 / len(categories)
        return row

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

    def code(self, key: str, category: Any) -> int:
        """Position of a category of a key, as text or as its column has it."""
        code = int(match([as_text(category)], self.factors[key])[0])
        if code < 0:
            msg = f"{category!r} is not a category of {key!r}; the model knows {self.factors[key]}."
            raise ValueError(msg)
        return code

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
