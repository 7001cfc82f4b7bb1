"""What every one-call function does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln._catalogue import of_function
from scpln.utils import as_bool

from ._fit import fit, split

if TYPE_CHECKING:
    from scpln.data import Data


def one_call(
    function: str,
    /,
    adata: Data,
    *,
    key_added: str | None,
    diagnostics: bool,
    copy: bool,
    more: dict[str, Any],
    **named: Any,
) -> Any:
    """Fit the model of a function with the arguments that it was called with."""
    entry = of_function(function)
    model_class = entry.load_class()
    adata = adata.copy() if as_bool("copy", copy) else adata
    steps = split(model_class, adata, {**named, **more})
    key_added = entry.key if key_added is None else key_added
    fit(model_class, adata, steps, key_added=key_added, diagnostics=diagnostics)
    return adata if copy else None
