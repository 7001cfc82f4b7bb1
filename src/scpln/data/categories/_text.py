"""Values of a column as text, and back."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Type that values of Python in a column of objects have in common, by pandas' name for them.
_OF_OBJECTS = {
    "integer": "int64",
    "floating": "float64",
    "boolean": "bool",
    "bytes": "bytes",
    "date": "date",
    "datetime": "datetime64[ns]",
    "datetime64": "datetime64[ns]",
}


def as_text(value: Any) -> str:
    """A value as text, the same in whatever type a column holds it.

    Numbers have the digits that their own precision needs, bytes are decoded, and a day is written without its midnight.

    Examples
    --------
    >>> as_text("b1"), as_text(b"b1"), as_text(1), as_text(1.0), as_text(True), as_text(np.float32(0.1))
    ('b1', 'b1', '1', '1.0', 'True', '0.1')
    >>> as_text(pd.Timestamp("2020-01-31")), as_text(date(2020, 1, 31)), as_text(pd.Timestamp("2020-01-31 12:30"))
    ('2020-01-31', '2020-01-31', '2020-01-31 12:30:00')
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, datetime | np.datetime64):
        moment = pd.Timestamp(value)
        return str(moment.date() if moment.tz is None and moment == moment.normalize() else moment)
    if isinstance(value, np.timedelta64):
        return str(pd.Timedelta(value))
    if isinstance(value, np.float16 | np.float32):
        return str(value + type(value)(0))  # -0 and 0 are one category
    if isinstance(value, float):
        return repr(float(value) + 0.0)
    return str(value)


def dtype_of(values: pd.Index) -> str:
    """Name of the type of a column's values, as `restore` takes it; ``"text"`` where it is none of those."""
    dtype: Any = values.dtype
    if pd.api.types.is_object_dtype(dtype):
        dtype = _OF_OBJECTS.get(pd.api.types.infer_dtype(values, skipna=True), "text")
        return "text" if dtype == "int64" and not all(-(2**63) <= value < 2**63 for value in values) else dtype
    if dtype.kind not in "iufbmM":
        return "text"
    return str(getattr(dtype, "numpy_dtype", dtype))


def restore(texts: Sequence[str], dtype: str) -> NDArray:
    """Values of the type that a column had, from their texts: text stays as it is, in an array of objects.

    Examples
    --------
    >>> restore(["1", "2"], "int64"), restore(["True", "False"], "bool")
    (array([1, 2]), array([ True, False]))
    >>> restore(["2020-01-31"], "datetime64[ns]")
    array(['2020-01-31T00:00:00.000000000'], dtype='datetime64[ns]')
    """
    if dtype == "bool":
        return np.array([text == "True" for text in texts])
    if dtype.startswith(("datetime64", "timedelta64")):
        return pd.Series(list(texts), dtype=object).astype(dtype).to_numpy()
    if dtype.startswith(("int", "uint", "float")):
        number: Any = float if dtype.startswith("float") else int
        return np.array([number(text) for text in texts], dtype=dtype)
    from_text: Any = {"bytes": str.encode, "date": date.fromisoformat}.get(dtype, str)
    result = np.empty(len(texts), dtype=object)
    result[:] = [from_text(text) for text in texts]
    return result
