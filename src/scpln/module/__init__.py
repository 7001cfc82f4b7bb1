"""Torch, without AnnData: posteriors, and the modules that hold a model's parameters."""

from ._gaussian import GaussianPosterior
from ._plnpca import PLNPCAModule

__all__ = ["GaussianPosterior", "PLNPCAModule"]
