"""Decoders: from latent states to the parameters of the likelihood."""

from ._base import Decoder
from ._linear import LinearDecoder
from ._mlp import MLPDecoder

__all__ = ["Decoder", "LinearDecoder", "MLPDecoder"]
