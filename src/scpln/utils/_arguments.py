"""Checks of plain arguments: numbers, choices, seeds."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, SupportsIndex, cast

import numpy as np

from scpln._settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def positive_integer(name: str, value: object) -> int:
    """`value` as an int of at least 1.

    Examples
    --------
    >>> positive_integer("max_epochs", 0)
    Traceback (most recent call last):
        ...
    ValueError: max_epochs=0, but it must be a whole number of at least 1.
    """
    msg = f"{name}={value!r}, but it must be a whole number of at least 1."
    try:
        number = operator.index(cast("SupportsIndex", value))
    except TypeError:
        raise TypeError(msg) from None
    if number < 1:
        raise ValueError(msg)
    return number


def positive_integer_or_none(name: str, value: object) -> int | None:
    """The same, where None stands for a default."""
    return None if value is None else positive_integer(name, value)


def as_integers(name: str, values: object) -> list[int] | None:
    """`values` as a list of one or more ints of at least 1; None stays None.

    Examples
    --------
    >>> as_integers("flow_hidden", (64, 64))
    [64, 64]
    >>> as_integers("flow_hidden", 64)
    Traceback (most recent call last):
        ...
    TypeError: flow_hidden=64, but it must be a list of one or more whole numbers of at least 1.
    """
    msg = f"{name}={values!r}, but it must be a list of one or more whole numbers of at least 1."
    if values is None:
        return None
    if not isinstance(values, list | tuple):
        raise TypeError(msg)
    if not values:
        raise ValueError(msg)
    return [positive_integer(name, value) for value in values]


def positive_number(name: str, value: float) -> float:
    """`value` as a float above 0."""
    if not float(value) > 0:
        msg = f"{name}={value!r}, but it must be greater than 0."
        raise ValueError(msg)
    return float(value)


def as_bool(name: str, value: object) -> bool:
    """`value` as a bool; numbers and text are not.

    Examples
    --------
    >>> as_bool("size_factors", "no")
    Traceback (most recent call last):
        ...
    TypeError: size_factors='no', but it must be True or False.
    """
    if not isinstance(value, bool | np.bool_):
        msg = f"{name}={value!r}, but it must be True or False."
        raise TypeError(msg)
    return bool(value)


def in_range(name: str, value: float, lowest: float, highest: float = float("inf")) -> float:
    """`value` as a float from `lowest` to `highest`.

    Examples
    --------
    >>> in_range("kl_warmup", 2, 0, 1)
    Traceback (most recent call last):
        ...
    ValueError: kl_warmup=2, but it must be from 0 to 1.
    """
    if not lowest <= float(value) <= highest:
        limits = f"from {lowest:g} to {highest:g}" if highest < float("inf") else f"at least {lowest:g}"
        msg = f"{name}={value!r}, but it must be {limits}."
        raise ValueError(msg)
    return float(value)


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that `value` is one of the choices."""
    if value not in choices:
        msg = f"{name}={value!r} is not available; choose from {list(choices)}."
        raise ValueError(msg)


def resolve_seed(seed: int | None) -> int:
    """The given seed, ``scvi.settings.seed``, or 0.

    Examples
    --------
    >>> resolve_seed(3)
    3
    """
    if seed is None:
        seed = settings.seed
    number = 0 if seed is None else operator.index(seed)
    if number < 0:
        msg = f"seed={number}, but it must be 0 or more."
        raise ValueError(msg)
    return number
