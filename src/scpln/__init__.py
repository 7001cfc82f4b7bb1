"""Poisson log-normal models and count autoencoders for single-cell counts.

Submodules are loaded when first touched, so that ``import scpln`` takes milliseconds although the models build on
scvi-tools, which takes seconds.

Examples
--------
>>> import scpln
>>> adata = scpln.datasets.pbmc68k_reduced()
>>> adata.layers["counts"].shape
(700, 765)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._settings import settings, show_messages

if TYPE_CHECKING:
    from types import ModuleType

    from scpln import datasets, hub, model, pl, tl, tune

__version__ = "0.1.0"
__all__ = ["__version__", "datasets", "hub", "model", "pl", "settings", "tl", "tune"]

show_messages()


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
