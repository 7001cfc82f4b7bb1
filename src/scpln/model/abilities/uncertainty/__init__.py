"""How sure expression and latent states are, with parameters that are themselves uncertain."""

from ._ability import Uncertainty

__all__ = ["Uncertainty"]
