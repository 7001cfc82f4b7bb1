"""Posteriors of latent states."""

from ._base import Posterior, as_double
from ._conditional import Conditional, Draws
from ._flow import FlowPosterior
from ._gaussian import GaussianPosterior
from ._mixture import MixturePosterior
from ._normal_points import normal_points

__all__ = [
    "Conditional",
    "Draws",
    "FlowPosterior",
    "GaussianPosterior",
    "MixturePosterior",
    "Posterior",
    "as_double",
    "normal_points",
]
