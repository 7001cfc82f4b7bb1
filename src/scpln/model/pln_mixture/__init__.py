"""Mixtures of Poisson log-normal models in gene space."""

from ._components import GeneSpaceMixture
from ._pln_mixture import PLNMixture

__all__ = ["GeneSpaceMixture", "PLNMixture"]
