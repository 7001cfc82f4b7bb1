"""Clusters of models whose prior is a mixture, and cells that are in none."""

from ._clusters import Clusters, effective_number

__all__ = ["Clusters", "effective_number"]
