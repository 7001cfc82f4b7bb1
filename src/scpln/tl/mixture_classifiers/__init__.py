"""Mixture classifiers of annotated data: embeddings of cells, and tables of counts."""

from ._mixture_classifier import mixture_classifier

__all__ = ["mixture_classifier"]
