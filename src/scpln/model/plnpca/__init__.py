"""PLN-PCA."""

from ._plnpca import PLNPCA
from ._stages import train_from

__all__ = ["PLNPCA", "train_from"]
