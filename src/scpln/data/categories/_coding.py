"""A column as codes of its categories, and its categories among those of other data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ._text import as_text, dtype_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Coding:
    """A column as codes of its categories: the one conversion of labels, batches, covariates and groups.

    Parameters
    ----------
    codes
        Position of each cell's category, (n,); −1 where it is missing.
    categories
        Those that occur, as text (`as_text`): in their order if the column is categorical, sorted otherwise.
    dtype
        Type of their values, by which `restore` gives them back.

    Examples
    --------
    >>> coding = Coding.of(pd.Series([2.0, None, 1.0]))
    >>> coding.codes, coding.categories, coding.dtype
    (array([ 1, -1,  0]), ['1.0', '2.0'], 'float64')
    """

    codes: NDArray[np.int64]
    categories: list[str]
    dtype: str

    @classmethod
    def of(cls, column: pd.Series) -> Self:
        """Codes of a column of any type. Missing values are set apart before anything is text.

        Raises
        ------
        TypeError
            If it holds lists or other values that cannot be compared.
        """
        own = _float_dtype(column)
        if own is not None:
            # As plain floats: pandas has no index of halves, and lets nullable ones hold NaN as a value.
            column = pd.Series(column.to_numpy(np.promote_types(own, np.float32), na_value=np.nan), name=column.name)
        try:
            categorical = column.astype("category")
        except TypeError as error:
            msg = (
                f"adata.obs[{column.name!r}] holds values that cannot be categories ({error}). "
                "Convert them to text or numbers."
            )
            raise TypeError(msg) from error
        categorical = categorical.cat.remove_unused_categories()
        values = categorical.cat.categories
        own = own or _float_dtype(values)
        native: Any = values if own is None else values.to_numpy(own)
        dtype = dtype_of(values) if own is None else str(own)
        return cls(categorical.cat.codes.to_numpy(np.int64), [as_text(value) for value in native], dtype)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of cells of each category."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.categories))

    def codes_among(self, known: Sequence[str]) -> NDArray[np.int64]:
        """Position of each cell's category among those of other data (n,); −1 where it is missing or unknown."""
        return np.append(match(self.categories, known), -1)[self.codes]

    def without(self, category: str | None) -> Self:
        """The same, with the cells of one category as missing."""
        left = [
            known
            for known, found in zip(self.categories, match(self.categories, [str(category)]), strict=True)
            if category is None or found < 0
        ]
        return type(self)(self.codes_among(left), left, self.dtype)


def match(categories: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """Position of categories among known ones, −1 where they are unknown.

    A number is found in whatever type it comes: 1 where 1.0 or ``"1"`` is known, and 0.1 in single precision where 0.1 is,
    unless several of the known are that number and none reads the same.

    Examples
    --------
    >>> match(["b", "c", "1.0", "01"], ["1", "b"])
    array([ 1, -1,  0, -1])
    """
    positions = {category: position for position, category in enumerate(known)}
    result = np.array([positions.get(category, -1) for category in categories], dtype=np.int64)
    if (result < 0).any():
        of_number: dict[float, list[int]] = {}
        for category, position in positions.items():
            number = _number(category)
            if number is not None:
                of_number.setdefault(number, []).append(position)
        for place in np.flatnonzero(result < 0).tolist():
            number = _number(categories[place])
            found = of_number.get(number, []) if number is not None else []
            result[place] = found[0] if len(found) == 1 else -1
    return result


def _number(text: str) -> float | None:
    """The number that a text is, if it is written as Python writes it: "1" and "1.0" are, "01" and "2.10" are names."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    if value.is_integer():
        return value if text in (repr(value), repr(int(value))) else None
    single = float(np.float32(value))
    return None if text != repr(value) else single or value


def _float_dtype(values: pd.Series | pd.Index) -> np.dtype | None:
    """Precision of floating-point numbers, nullable or not; None of other values."""
    dtype = getattr(values.dtype, "numpy_dtype", values.dtype)
    return dtype if isinstance(dtype, np.dtype) and dtype.kind == "f" else None
