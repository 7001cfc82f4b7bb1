"""Labels of new cells, from cells that have some."""

from ._label_transfer import label_transfer

__all__ = ["label_transfer"]
