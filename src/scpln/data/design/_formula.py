"""The design of a formula, through formulaic: what it learned of the training cells is kept as plain values."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from scpln.data.categories import restore

from ._base import INTERCEPT, Column, Design
from ._basis import Basis
from ._columns import get_categories, get_codes, get_coding, get_column, get_numbers, new_categories, scale_of
from ._plain import from_plain, to_plain
from ._syntax import Formula, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Types whose values are categories of a formula as they are, and not as text.
_NATIVE = ("int", "uint", "float", "bool")


@dataclass(frozen=True)
class FormulaDesign(Design):
    """What the columns of a formula are, learned once from the training cells.

    Columns are those of `formulaic <https://matthewwardrop.github.io/formulaic/>`_, by its names, but that of the intercept. Models
    see them on scales of their own (`Basis`).

    Parameters
    ----------
    text
        The formula, with the batch.
    factors, numbers, arguments, scales
        As of every `Design`.
    dtypes
        Type of each factor's values, as `restore` takes it.
    transforms
        What functions such as ``bs`` learned, as formulaic has it.
    basis
        Scales of the columns.

    Examples
    --------
    >>> obs = pd.DataFrame({"drug": ["no", "yes", "yes", "no"], "age": [1.0, 2.0, 3.0, 5.0]})
    >>> design = Design.learn(obs, design="~ drug * age")
    >>> design.names
    ['(Intercept)', 'drug[T.yes]', 'age', 'drug[T.yes]:age']
    >>> design.in_units(np.eye(4))[0]
    array([1., 0., 0., 0.])
    """

    text: str
    factors: dict[str, list[str]]
    numbers: list[str]
    arguments: dict[str, str]
    scales: dict[str, tuple[float, float]]
    dtypes: dict[str, str]
    transforms: dict[str, Any] = field(default_factory=dict)
    basis: Basis = field(default_factory=lambda: Basis([]))

    @classmethod
    def of(cls, obs: pd.DataFrame, text: str, batch_key: str | None) -> Self:
        """Learn of the training cells, and check that no column of X follows from the others."""
        formula = parse(text)
        if batch_key is not None and batch_key not in formula.columns:
            text = f"{text} + `{batch_key}`"
            formula = parse(text)
        arguments = {key: "batch_key" if key == batch_key else "design" for key in formula.columns}
        factors = [key for key in formula.columns if _is_factor(obs, key, arguments[key], formula)]
        numbers = [key for key in formula.columns if key not in factors]
        categories = {key: get_categories(obs, key, arguments[key]) for key in factors}
        dtypes = {key: get_coding(obs, key, arguments[key]).dtype for key in factors}
        scales = {key: scale_of(get_numbers(obs, key, arguments[key])) for key in numbers}
        scales = {key: (center, spread if np.isfinite(spread) else 1.0) for key, (center, spread) in scales.items()}
        design = cls(text, categories, numbers, arguments, scales, dtypes)
        x, learned = design._evaluate(design._frame(obs))
        design = replace(design, transforms=to_plain(learned, text))
        design = replace(design, basis=Basis.learn(x, design.columns, numbers))
        design._check(obs, x)
        return design

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """The design described by `to_state`."""
        scales = {key: tuple(scale) for key, scale in state["scales"].items()}
        own = state["formula"]
        return cls(
            own["text"],
            state["factors"],
            state["numbers"],
            state["arguments"],
            scales,
            own["dtypes"],
            own["transforms"],
            Basis.from_state(own["basis"]),
        )

    def to_state(self) -> dict[str, Any]:
        """Plain values, for the registry and its JSON."""
        own = {"text": self.text, "dtypes": self.dtypes, "transforms": self.transforms, "basis": self.basis.to_state()}
        return {**super().to_state(), "formula": own}

    @cached_property
    def columns(self) -> list[Column]:
        """The intercept, and what else the formula has."""
        _, spec = self._materialize(self._frame_of({}, 1))
        made_of = {
            str(term): tuple(key for key in self.arguments if key in map(str, names))
            for term, names in spec.term_variables.items()
        }
        columns = [
            Column(name, str(row.term), made_of[str(row.term)]) for row in spec.structure for name in row.columns
        ]
        return [column._replace(name=INTERCEPT) if not column.keys else column for column in columns]

    def matrix(self, obs: pd.DataFrame, fixed: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """X (n × d) of the given cells; `fixed` puts all of them into one category of a key."""
        return self.basis.apply(self._evaluate(self._frame(obs, fixed))[0])

    @property
    def average(self) -> NDArray[np.float64]:
        """The row of X (d,) of no cell in particular: half-way between all categories, at the means of numbers."""
        row = np.zeros(len(self.columns))
        for keys in dict.fromkeys(column.keys for column in self.columns):
            factors = [key for key in keys if key in self.factors]
            grid = list(itertools.product(*(range(len(self.factors[key])) for key in factors)))
            codes = dict(zip(factors, np.array(grid, dtype=np.int64).reshape(len(grid), -1).T, strict=True))
            x = self.basis.apply(self._evaluate(self._frame_of(codes, len(grid)))[0])
            own = [position for position, column in enumerate(self.columns) if column.keys == keys]
            row[own] = x[:, own].mean(0)
        return row

    def in_units(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (p, d) of the formula's columns, from those of X."""
        return self.basis.in_units(coefficients)

    def extended(self, obs: pd.DataFrame) -> Self:
        """The same design with the categories that `obs` has and this lacks, after the known ones of each key."""
        factors = {
            key: [*known, *new_categories(obs, key, self.arguments[key], known)] for key, known in self.factors.items()
        }
        if factors == self.factors:
            return self
        design = replace(self, factors=factors, basis=Basis([]))
        is_new, _ = design.growth(self)
        new = [column for column, is_one in zip(design.columns, is_new, strict=True) if is_one]
        made = [column.name for column in new if set(column.keys) & set(self.numbers)]
        if made or not self._is_part_of(design, ~is_new):
            why = f"{made} would need slopes of their own" if made else "their coding changes with a new category"
            added = {key: each[len(self.factors[key]) :] for key, each in factors.items() if each != self.factors[key]}
            msg = (
                f"adata.obs has categories that the model was not trained on, {added}, and cannot take them into "
                f"design={self.text!r}: {why}. Map these cells to a known category, or train on all cells together."
            )
            raise ValueError(msg)
        places = {old: int(position) for old, position in enumerate(np.flatnonzero(~is_new))}
        steps = [(places[j], [places[k] for k in others], a, spread) for j, others, a, spread in self.basis.steps]
        return replace(design, basis=Basis(steps))

    def _is_part_of(self, design: FormulaDesign, kept: NDArray[np.bool_]) -> bool:
        """Whether cells of known categories have the same columns in another design."""
        for key, known in self.factors.items():
            codes = {key: np.arange(len(known))}
            mine, _ = self._evaluate(self._frame_of(codes, len(known)))
            if not np.array_equal(design._evaluate(design._frame_of(codes, len(known)))[0][:, kept], mine):
                return False
        return True

    def _frame(self, obs: pd.DataFrame, fixed: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Columns of obs as the training cells had them."""
        fixed = fixed or {}
        codes = {
            key: np.full(len(obs), self.code(key, fixed[key]))
            if key in fixed
            else get_codes(obs, key, self.arguments[key], known)
            for key, known in self.factors.items()
        }
        numbers = {key: get_numbers(obs, key, self.arguments[key]) for key in self.numbers}
        return self._frame_of(codes, len(obs), numbers).set_axis(obs.index)

    def _frame_of(
        self, codes: Mapping[str, NDArray[np.int64]], n: int, numbers: Mapping[str, NDArray[np.float64]] | None = None
    ) -> pd.DataFrame:
        """Categories by their codes, the first where there are none, and numbers, at their means where there are none."""
        columns: dict[str, Any] = {}
        for key, known in self.factors.items():
            native = self.dtypes[key].startswith(_NATIVE)
            values = restore(known, self.dtypes[key] if native else "text")
            columns[key] = pd.Categorical.from_codes(codes.get(key, np.zeros(n, np.int64)), categories=pd.Index(values))
        for key in self.numbers:
            columns[key] = (numbers or {}).get(key, np.full(n, self.scales[key][0]))
        return pd.DataFrame(columns, index=range(n))

    def _evaluate(self, frame: pd.DataFrame) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """X as the formula gives it, and what its functions know."""
        matrix, spec = self._materialize(frame)
        x = np.asarray(matrix, dtype=np.float64).reshape(len(frame), -1)
        wrong = np.argwhere(~np.isfinite(x))
        if len(wrong):
            cell, column = wrong[0]
            msg = (
                f"design={self.text!r} is NaN or infinite in {spec.column_names[column]!r} for {len(set(wrong[:, 0])):,} of {len(x):,} "
                f"cells, first for {frame.index[cell]!r}. Change the formula, or leave these cells out."
            )
            raise ValueError(msg)
        return x, spec.transform_state

    def _materialize(self, frame: pd.DataFrame) -> tuple[Any, Any]:
        from formulaic import ModelSpec
        from formulaic.errors import FormulaicError

        formula = self._parsed
        known = from_plain(copy.deepcopy(self.transforms))
        spec = ModelSpec(formula.terms, na_action="ignore", output="numpy", transform_state=known)
        try:
            with np.errstate(all="ignore"):
                matrix = spec.get_model_matrix(frame)
        except (FormulaicError, ValueError, TypeError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            msg = f"design={self.text!r} cannot be computed of these cells: {reason}"
            raise ValueError(msg) from error
        return matrix, matrix.model_spec

    @cached_property
    def _parsed(self) -> Formula:
        return parse(self.text)

    def _check(self, obs: pd.DataFrame, x: NDArray[np.float64]) -> None:
        """What was kept must give the same columns again, and each of them something of its own."""
        again, _ = self._evaluate(self._frame(obs))
        if not np.allclose(again, x, rtol=1e-9, atol=1e-9 * float(np.abs(x).max(initial=0.0))):
            msg = f"design={self.text!r} is not the same when it is computed again. Compute such columns into obs, and name these."
            raise ValueError(msg)
        redundant = self._redundant(self.basis.apply(x))
        if redundant:
            msg = (
                f"The coefficients of {redundant} cannot be told from the others: in these {len(obs):,} cells, the other columns of "
                f"design={self.text!r} determine them, as when every donor has one condition, or when two categories "
                "never come together. Leave out the term that is contained in another."
            )
            raise ValueError(msg)


def _is_factor(obs: pd.DataFrame, key: str, argument: str, formula: Formula) -> bool:
    """Whether a column is one of categories: text, of a categorical type, in ``C(...)``, or the batch."""
    dtype: Any = get_column(obs, key, argument).dtype
    is_number = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    is_moment = pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype)
    categorical = key in formula.categorical or argument == "batch_key"
    if categorical and is_number and argument != "batch_key" and key in formula.elsewhere:
        msg = (
            f"design has {key!r} both as categories, C({key}), and as numbers. Copy it, and use one for each: "
            f"`adata.obs['{key}_number'] = adata.obs[{key!r}]`."
        )
        raise ValueError(msg)
    return categorical or not (is_number or is_moment)
