"""Keyword arguments that a function takes in groups: what belongs together is documented and checked in one place."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Function = TypeVar("Function", bound=Callable[..., Any])


def takes(*groups: Mapping[str, Any]) -> Callable[[Function], Function]:
    """Say which keyword arguments a function takes as ``**more``, with their defaults.

    Examples
    --------
    >>> @takes({"kl_warmup": 0.0}, {"resume": False})
    ... def train(max_epochs=10, **more):
    ...     return filled(train, more)
    >>> train(kl_warmup=0.5)
    {'kl_warmup': 0.5, 'resume': False}
    >>> keywords(train)
    {'max_epochs': 10, 'kl_warmup': 0.0, 'resume': False}
    >>> train(kl_warm=0.5)
    Traceback (most recent call last):
        ...
    TypeError: train() takes no argument 'kl_warm'. Did you mean 'kl_warmup'?
    """

    def mark(function: Function) -> Function:
        function.more_keywords = {name: value for group in groups for name, value in group.items()}  # type: ignore[attr-defined]
        return function

    return mark


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Names of all arguments that a function takes, with their defaults, those of its groups included."""
    parameters = inspect.signature(function).parameters.values()
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {each.name: each.default for each in parameters if each.kind not in rest}
    return {**named, **getattr(function, "more_keywords", {})}


def filled(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a function's groups, given some of them.

    Raises
    ------
    TypeError
        The function takes no such argument.
    """
    defaults: dict[str, Any] = function.more_keywords  # type: ignore[attr-defined]
    for name in given:
        if name not in defaults:
            near = get_close_matches(name, keywords(function), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            msg = f"{function.__name__}() takes no argument {name!r}.{hint}"
            raise TypeError(msg)
    return {**defaults, **given}
