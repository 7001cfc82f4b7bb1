"""Mixtures of Poisson log-normal models in gene space."""

from ._components import MOST_PRECISE, GeneSpaceMixture
from ._pln_mixture import PLNMixture

__all__ = ["MOST_PRECISE", "GeneSpaceMixture", "PLNMixture"]
