"""Figures of discrete codes."""

from ._codes import code_labels, code_usage

__all__ = ["code_labels", "code_usage"]
