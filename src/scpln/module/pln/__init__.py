"""Poisson log-normal models, with the posteriors of their training cells."""

from ._log_density import LogDensityLikelihood
from ._mixture import PLNMixtureModule
from ._pln import PLNModule
from ._pln_ar import PLNARModule
from ._pln_tree import PLNTreeModule
from ._plnpca import PLNPCAModule

__all__ = ["LogDensityLikelihood", "PLNARModule", "PLNMixtureModule", "PLNModule", "PLNPCAModule", "PLNTreeModule"]
