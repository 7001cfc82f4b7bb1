"""Figures, drawn from what is stored in an AnnData; a fitted model is not needed."""

from ._training import history
from ._variance import variance_explained

__all__ = ["history", "variance_explained"]
