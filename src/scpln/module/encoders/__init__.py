"""Encoders: from counts to the parameters of posteriors."""

from ._component_encoder import ComponentEncoder
from ._encoder import Encoder
from ._features import GaussianFeatures
from ._tree_encoder import TreeEncoder

__all__ = ["ComponentEncoder", "Encoder", "GaussianFeatures", "TreeEncoder"]
