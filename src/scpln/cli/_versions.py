"""Versions of scpln and of what it computes with."""

from __future__ import annotations

import platform

from scpln import __version__

DEPENDENCIES = ("anndata", "scanpy", "scvi-tools", "torch", "lightning", "zuko", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Versions by name, without importing any of these packages.

    Examples
    --------
    >>> sorted(versions())[:3]
    ['anndata', 'lightning', 'numpy']
    """
    from importlib.metadata import version

    return {"scpln": __version__, "python": platform.python_version(), **{name: version(name) for name in DEPENDENCIES}}
