"""Functions in scanpy's manner: an AnnData in, the same AnnData annotated."""

from ._plnpca import plnpca

__all__ = ["plnpca"]
