"""How sure parameters are, and expression and latent states, with parameters that are themselves uncertain."""

from ._ability import Uncertainty
from ._resampled import Resampled
from ._resampling import ResampledParameters
from ._standard_errors import StandardErrors

__all__ = ["Resampled", "ResampledParameters", "StandardErrors", "Uncertainty"]
