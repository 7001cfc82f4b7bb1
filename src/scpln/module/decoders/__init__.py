"""Decoders: from latent states to the parameters of the likelihood."""

from ._base import Decoder
from ._identity import IdentityDecoder
from ._linear import LinearDecoder
from ._mlp import MLPDecoder
from ._tree import TreeDecoder

__all__ = ["Decoder", "IdentityDecoder", "LinearDecoder", "MLPDecoder", "TreeDecoder"]
