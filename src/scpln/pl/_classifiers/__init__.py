"""Figures of classifiers."""

from ._mixture_classifier import mixture_classifier

__all__ = ["mixture_classifier"]
