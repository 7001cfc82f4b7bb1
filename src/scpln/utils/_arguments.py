"""Checks of plain arguments: numbers, choices, seeds."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np

from scpln._settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


#: Largest whole number of an argument that has no limit of its own, and seed, as of NumPy's and scikit-learn's generators.
MOST, LARGEST_SEED = 2**31 - 1, 2**32 - 1
#: Most draws of a cell, and most widths in a list of them.
MOST_DRAWS, _MOST_WIDTHS = 1_000_000, 100


def positive_integer(name: str, value: object, *, least: int = 1, most: int = MOST) -> int:
    """`value` as an int from `least` to `most`; True, False, text and numbers with decimals are none.

    Examples
    --------
    >>> positive_integer("max_epochs", 0)
    Traceback (most recent call last):
        ...
    ValueError: max_epochs=0, but it must be a whole number of at least 1.
    >>> positive_integer("batch_size", 10**30)
    Traceback (most recent call last):
        ...
    ValueError: batch_size=1000000000000000000000000000000, but it must be at most 2,147,483,647.
    """
    msg = f"{name}={value!r}, but it must be a whole number of at least {least}."
    try:
        number = operator.index(cast("SupportsIndex", value))
    except TypeError:
        raise TypeError(msg) from None
    if isinstance(value, bool):
        raise TypeError(msg)
    if number < least:
        raise ValueError(msg)
    if number > most:
        msg = f"{name}={value!r}, but it must be at most {most:,}."
        raise ValueError(msg)
    return number


def positive_integer_or_none(name: str, value: object, *, most: int = MOST) -> int | None:
    """The same, where None stands for a default."""
    return None if value is None else positive_integer(name, value, most=most)


def as_integers(name: str, values: object, *, most: int = MOST) -> list[int] | None:
    """`values` as a list of one or more ints from 1 to `most`; None stays None.

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
    if len(values) > _MOST_WIDTHS:
        msg = f"{name} has {len(values):,} numbers, but it may have at most {_MOST_WIDTHS}."
        raise ValueError(msg)
    return [positive_integer(name, value, most=most) for value in values]


def as_number(name: str, value: object) -> float:
    """`value` as a finite float; True, False, text and arrays are none.

    Examples
    --------
    >>> as_number("learning_rate", "0.1")
    Traceback (most recent call last):
        ...
    TypeError: learning_rate='0.1', but it must be a number.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real | np.number):
        msg = f"{name}={value!r}, but it must be a number."
        raise TypeError(msg)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        msg = f"{name}={value!r}, but it must be a finite number."
        raise ValueError(msg)
    return number


def positive_number(name: str, value: object, *, most: float = math.inf) -> float:
    """`value` as a finite float above 0, and at most `most`."""
    number = as_number(name, value)
    if number <= 0:
        msg = f"{name}={value!r}, but it must be greater than 0."
        raise ValueError(msg)
    if number > most:
        msg = f"{name}={value!r}, but it must be at most {most:,g}."
        raise ValueError(msg)
    return number


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


def as_mapping(name: str, value: object) -> Mapping[str, Any]:
    """`value`, which must be a dictionary, or another mapping, of names.

    Examples
    --------
    >>> as_mapping("space", ["n_latent"])
    Traceback (most recent call last):
        ...
    TypeError: space=['n_latent'], but it must be a dictionary of names and values.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        msg = f"{name}={value!r}, but it must be a dictionary of names and values."
        raise TypeError(msg)
    return value


def as_names(name: str, values: object) -> list[str]:
    """One name or several, as a list.

    Examples
    --------
    >>> as_names("gene_list", "CD4")
    ['CD4']
    >>> as_names("gene_list", 5)
    Traceback (most recent call last):
        ...
    TypeError: gene_list=5, but it must be a name or a list of names.
    """
    if isinstance(values, str):
        return [values]
    msg = f"{name}={values!r}, but it must be a name or a list of names."
    try:
        names = list(cast("Iterable[object]", values))
    except TypeError:
        raise TypeError(msg) from None
    if not all(isinstance(each, str) for each in names):
        raise TypeError(msg)
    return cast("list[str]", names)


def in_range(name: str, value: object, lowest: float, highest: float = float("inf")) -> float:
    """`value` as a finite float from `lowest` to `highest`.

    Examples
    --------
    >>> in_range("kl_warmup", 2, 0, 1)
    Traceback (most recent call last):
        ...
    ValueError: kl_warmup=2, but it must be from 0 to 1.
    """
    number = as_number(name, value)
    if not lowest <= number <= highest:
        limits = f"from {lowest:g} to {highest:g}" if highest < float("inf") else f"at least {lowest:g}"
        msg = f"{name}={value!r}, but it must be {limits}."
        raise ValueError(msg)
    return number


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that `value` is one of the choices."""
    if not isinstance(value, str) or value not in choices:
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
    return 0 if seed is None else positive_integer("seed", seed, least=0, most=LARGEST_SEED)


def check_belongs(used: bool, where: str, **arguments: object) -> None:
    """Refuse arguments of something that the model does not have."""
    for name, value in arguments.items():
        if value is not None and not used:
            msg = f"{name}={value!r} needs {where}."
            raise ValueError(msg)
