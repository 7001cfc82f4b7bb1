"""Encoders: from counts to the parameters of posteriors."""

from ._code_encoder import CodeEncoder
from ._component_encoder import ComponentEncoder
from ._encoder import Encoder
from ._features import GaussianFeatures
from ._tree_encoder import TreeEncoder

__all__ = ["CodeEncoder", "ComponentEncoder", "Encoder", "GaussianFeatures", "TreeEncoder"]
