"""Real counts that load offline, and a simulator that knows the truth."""

from ._pbmc68k import pbmc68k_reduced
from ._simulate import simulate
from ._simulate_multimodal import simulate_multimodal

__all__ = ["pbmc68k_reduced", "simulate", "simulate_multimodal"]
