"""Networks of genes."""

from ._network import network

__all__ = ["network"]
