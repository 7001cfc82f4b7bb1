"""Poisson log-normal models, with the posteriors of their training cells."""

from ._mixture import PLNMixtureModule
from ._pln import PLNModule
from ._plnpca import PLNPCAModule

__all__ = ["PLNMixtureModule", "PLNModule", "PLNPCAModule"]
