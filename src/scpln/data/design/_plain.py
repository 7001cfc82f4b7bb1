"""What functions of a formula learned, as plain values of JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def to_plain(value: Any, text: str) -> Any:
    """Numbers, text, lists, and mappings; those whose keys are numbers as pairs.

    Examples
    --------
    >>> to_plain({"poly(age, 2)": {"alpha": {0: np.float64(3.5)}}}, "~ poly(age, 2)")
    {'poly(age, 2)': {'alpha': {'pairs': [[0, 3.5]]}}}
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist(), text)
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: to_plain(each, text) for key, each in value.items()}
        return {"pairs": [[to_plain(key, text), to_plain(each, text)] for key, each in value.items()]}
    if isinstance(value, Sequence):
        return [to_plain(each, text) for each in value]
    msg = (
        f"design={text!r} has a function that learned a {type(value).__name__} of the cells, which cannot be kept with a model. Compute "
        "this column into obs, and name it."
    )
    raise ValueError(msg)


def from_plain(value: Any) -> Any:
    """What was made plain, lists as arrays.

    Examples
    --------
    >>> from_plain({"alpha": {"pairs": [[0, 3.5]]}})
    {'alpha': {0: 3.5}}
    """
    if isinstance(value, list):
        return np.asarray(value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"pairs"}:
        return {key: from_plain(each) for key, each in value["pairs"]}
    return {key: from_plain(each) for key, each in value.items()}
