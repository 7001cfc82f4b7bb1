"""What every design is: columns of X learned once from the training cells, and read of any others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from scpln.data.categories import as_text, match

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

INTERCEPT = "(Intercept)"
_REDUNDANT = 1e-8


class Column(NamedTuple):
    """A column of X: its name, the term that it belongs to, and the columns of obs that it is made of."""

    name: str
    term: str
    keys: tuple[str, ...]


class Design(ABC):
    """What the columns of X are. The first is the intercept.

    Attributes
    ----------
    factors
        Categories of each categorical key, its reference category first.
    numbers
        Keys of continuous covariates.
    arguments
        Which argument of `setup_anndata` each key came from.
    scales
        Mean and standard deviation in the training cells of each of the numbers.
    """

    factors: dict[str, list[str]]
    numbers: list[str]
    arguments: dict[str, str]
    scales: dict[str, tuple[float, float]]

    @staticmethod
    def learn(
        obs: pd.DataFrame,
        *,
        design: str | None = None,
        batch_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
    ) -> Design:
        """Read what there is to know of keys or of a formula, and check that no column of X follows from the others."""
        if design is None:
            from ._keyed import KeyedDesign  # which is a design

            return KeyedDesign.of(obs, batch_key, categorical_covariate_keys, continuous_covariate_keys)
        from ._formula import FormulaDesign

        for argument, keys in (
            ("categorical_covariate_keys", categorical_covariate_keys),
            ("continuous_covariate_keys", continuous_covariate_keys),
        ):
            if keys:
                msg = f"design={design!r} and {argument}={keys!r} are two ways to say one thing. Write these columns into the formula."
                raise ValueError(msg)
        return FormulaDesign.of(obs, design, batch_key)

    @staticmethod
    def from_state(state: dict[str, Any]) -> Design:
        """The design described by `to_state`."""
        from ._formula import FormulaDesign
        from ._keyed import KeyedDesign

        return (FormulaDesign if "formula" in state else KeyedDesign).restored(state)

    @classmethod
    @abstractmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """The same, of this kind."""

    @property
    @abstractmethod
    def columns(self) -> list[Column]:
        """The d columns of X."""

    @abstractmethod
    def matrix(self, obs: pd.DataFrame, fixed: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """X (n × d) of the given cells; `fixed` puts all of them into one category of a key."""

    @property
    @abstractmethod
    def average(self) -> NDArray[np.float64]:
        """The row of X (d,) of no cell in particular: half-way between all categories, at the means of numbers."""

    @abstractmethod
    def in_units(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (p, d) in the units of columns of obs, from those of X."""

    @abstractmethod
    def extended(self, obs: pd.DataFrame) -> Self:
        """The same design with the categories that `obs` has and this lacks, after the known ones of each key."""

    def to_state(self) -> dict[str, Any]:
        """Plain values, for the registry and its JSON."""
        return {
            "factors": self.factors,
            "numbers": self.numbers,
            "arguments": self.arguments,
            "scales": {key: list(scale) for key, scale in self.scales.items()},
            "names": self.names,
        }

    @property
    def names(self) -> list[str]:
        """Names of the d columns of X."""
        return [column.name for column in self.columns]

    def columns_of(self, keys: Collection[str]) -> list[int]:
        """Positions of the columns that are made of these keys, and of no other."""
        return [
            position for position, column in enumerate(self.columns) if column.keys and set(column.keys) <= set(keys)
        ]

    def growth(self, known: Design) -> tuple[NDArray[np.bool_], list[list[int]]]:
        """Which columns (d,) a design that this extends does not have, and for each of these the known ones of its term."""
        names = set(known.names)
        is_new = np.array([column.name not in names for column in self.columns])
        siblings = [
            [
                position
                for position, other in enumerate(self.columns)
                if other.term == column.term and not is_new[position]
            ]
            for column, new in zip(self.columns, is_new, strict=True)
            if new
        ]
        return is_new, siblings

    def code(self, key: str, category: Any) -> int:
        """Position of a category of a key, as text or as its column has it."""
        code = int(match([as_text(category)], self.factors[key])[0])
        if code < 0:
            msg = f"{category!r} is not a category of {key!r}; the model knows {self.factors[key]}."
            raise ValueError(msg)
        return code

    def _redundant(self, x: NDArray[np.float64]) -> list[str]:
        """Names of columns that follow from the ones before, whose coefficients could be anything."""
        length = np.linalg.norm(x, axis=0)
        residual = np.zeros(x.shape[1])
        diagonal = np.abs(np.diagonal(np.linalg.qr(x / np.where(length > 0, length, 1), mode="r")))
        residual[: len(diagonal)] = diagonal
        return [name for name, left in zip(self.names, residual, strict=True) if left < _REDUNDANT]
