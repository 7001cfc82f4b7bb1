"""What a model says of arguments that it does not take: what there is in place of an argument of scvi-tools, or the nearest."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from scpln._catalogue import SCVI_NAMES
from scpln.utils import keywords

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = TypeVar("Function", bound=Callable[..., Any])


class Explained:
    """Base of classes whose constructor and public methods explain themselves."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, value in list(vars(cls).items()):
            if name.startswith("_") and name != "__init__":
                continue
            if isinstance(value, FunctionType):
                setattr(cls, name, explained(value))
            elif isinstance(value, classmethod) and isinstance(value.__func__, FunctionType):
                setattr(cls, name, classmethod(explained(value.__func__)))


def explained(function: Function) -> Function:
    """The same function, with a hint for arguments that it does not take.

    Examples
    --------
    >>> @explained
    ... def train(max_epochs=10, learning_rate=0.1): ...
    >>> train(lr=0.1)
    Traceback (most recent call last):
        ...
    TypeError: train() takes no argument 'lr', which is one of scvi-tools. Pass learning_rate=...
    """
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    if takes_any and not hasattr(function, "more_keywords"):
        return function
    known = keywords(function)

    @wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        for name in given:
            if name not in known:
                raise TypeError(_unknown(function, name))
        return function(*args, **given)

    return checked  # type: ignore[return-value]


def _unknown(function: Callable[..., Any], name: str) -> str:
    """What to do in place of passing an argument."""
    owner = function.__qualname__.rpartition(".")[0].rpartition(".")[2]
    called = owner if function.__name__ == "__init__" else function.__name__
    if name in SCVI_NAMES:
        return f"{called}() takes no argument {name!r}, which is one of scvi-tools. {SCVI_NAMES[name].remedy}"
    near = get_close_matches(name, keywords(function), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{called}() takes no argument {name!r}.{hint}"
