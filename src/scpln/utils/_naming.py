"""What messages call the data: ``adata``, or what that is of a MuData.

Whatever reads one AnnData says ``adata`` in its messages. Where that is a modality, or the MuData itself, its reader says so.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData

_name: ContextVar[str] = ContextVar("name", default="adata")


def name_of(data: AnnData | MuData) -> str:
    """What users call such data."""
    from mudata import MuData

    return "mdata" if isinstance(data, MuData) else "adata"


@contextmanager
def named(name: str) -> Iterator[None]:
    """Call ``adata`` by this name in errors and warnings.

    Examples
    --------
    >>> with named("mdata['prot']"):
    ...     raise ValueError("adata.X is empty.")
    Traceback (most recent call last):
        ...
    ValueError: mdata['prot'].X is empty.
    """
    token = _name.set(name)
    try:
        yield
    except (TypeError, ValueError) as error:
        error.args = tuple(renamed(part) if isinstance(part, str) else part for part in error.args)
        raise
    finally:
        _name.reset(token)


def renamed(message: str) -> str:
    """The message with the name that ``adata`` has here."""
    return re.sub(r"\badata\b", lambda _: _name.get(), message)
