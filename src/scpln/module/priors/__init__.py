"""Priors of latent states."""

from ._base import Prior
from ._gaussian_mixture import GaussianMixture
from ._normal import Normal
from ._standard_normal import StandardNormal

__all__ = ["GaussianMixture", "Normal", "Prior", "StandardNormal"]
