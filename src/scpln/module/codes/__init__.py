"""Discrete latent states: each cell has one code at each of several positions, and the vectors of its codes are its state."""

from ._autoregressive import AutoregressiveCodes
from ._ema import EMAQuantizer
from ._fsq import FiniteScalarQuantizer, levels_of
from ._posterior import CodePosterior
from ._prior import CodePrior
from ._quantizer import GradientName, Quantized, Quantizer
from ._vectors import CodeVectors
from ._vqvae import VQVAEModule

__all__ = [
    "AutoregressiveCodes",
    "CodePosterior",
    "CodePrior",
    "CodeVectors",
    "EMAQuantizer",
    "FiniteScalarQuantizer",
    "GradientName",
    "Quantized",
    "Quantizer",
    "VQVAEModule",
    "levels_of",
]
