"""The Poisson log-normal model in gene space."""

from ._pln import PLN

__all__ = ["PLN"]
