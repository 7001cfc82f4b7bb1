"""Priors of latent states."""

from ._base import Prior
from ._gaussian_mixture import GaussianMixture
from ._mixture import Mixture
from ._normal import Normal
from ._normal_mixture import NormalMixture
from ._standard_normal import StandardNormal

__all__ = ["GaussianMixture", "Mixture", "Normal", "NormalMixture", "Prior", "StandardNormal"]
