"""The design of keys: an intercept, batch and categorical covariates against their first category, and numbers on one scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ._base import INTERCEPT, Column, Design
from ._columns import as_list, get_categories, get_codes, get_numbers, new_categories, scale_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class KeyedDesign(Design):
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
    >>> import pandas as pd
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
    def of(
        cls,
        obs: pd.DataFrame,
        batch_key: str | None,
        categorical_covariate_keys: Sequence[str] | None,
        continuous_covariate_keys: Sequence[str] | None,
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
        scales = {key: scale_of(get_numbers(obs, key, arguments[key])) for key in numbers}
        design = cls(categories, numbers, arguments, scales)
        design._check_rank(obs)
        return design

    @property
    def columns(self) -> list[Column]:
        """The intercept, a column for each category but the first, and the numbers."""
        dummies = [
            Column(f"{key}[T.{category}]", key, (key,)) for key, known in self.factors.items() for category in known[1:]
        ]
        return [Column(INTERCEPT, "1", ()), *dummies, *(Column(key, key, (key,)) for key in self.numbers)]

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
            row[self.columns_of([key])] = 1 / len(categories)
        return row

    def in_units(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (p, d) of numbers in the units of their columns of obs, from those of X.

        Examples
        --------
        >>> import pandas as pd
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
        >>> import pandas as pd
        >>> design = Design.learn(pd.DataFrame({"batch": ["a", "b"]}), batch_key="batch")
        >>> design.extended(pd.DataFrame({"batch": ["c", "b"]})).names
        ['(Intercept)', 'batch[T.b]', 'batch[T.c]']
        """
        factors = {
            key: [*known, *new_categories(obs, key, self.arguments[key], known)] for key, known in self.factors.items()
        }
        return replace(self, factors=factors)

    def _check_rank(self, obs: pd.DataFrame) -> None:
        """Coefficients of a column that follows from the ones before it could be anything."""
        redundant = self._redundant(self.matrix(obs))
        if redundant:
            msg = (
                f"The coefficients of {redundant} cannot be told from the others: in these {len(obs):,} cells, the "
                "columns before them in the design (intercept, batch_key, categorical_covariate_keys, "
                "continuous_covariate_keys, in this order) determine them, as when every batch belongs to one "
                "condition. Leave out the key that is contained in another."
            )
            raise ValueError(msg)

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """The design described by `to_state`."""
        scales = {key: tuple(scale) for key, scale in state.get("scales", {}).items()}
        return cls(state["factors"], state["numbers"], state["arguments"], scales)
