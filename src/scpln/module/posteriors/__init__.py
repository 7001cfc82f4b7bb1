"""Posteriors of latent states."""

from ._base import Posterior, as_double
from ._conditional import Conditional, Draws
from ._flow import FlowPosterior
from ._gaussian import GaussianPosterior
from ._gene_space import GeneSpacePosterior
from ._mixture import SLOTS, MixturePosterior, mixture_posterior, most_probable
from ._normal_points import normal_points

__all__ = [
    "SLOTS",
    "Conditional",
    "Draws",
    "FlowPosterior",
    "GaussianPosterior",
    "GeneSpacePosterior",
    "MixturePosterior",
    "Posterior",
    "as_double",
    "mixture_posterior",
    "most_probable",
    "normal_points",
]
