"""PLN-PCA."""

from ._plnpca import PLNPCA

__all__ = ["PLNPCA"]
