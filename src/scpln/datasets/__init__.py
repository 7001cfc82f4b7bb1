"""Real counts that load offline, and a simulator that knows the truth."""

from ._pbmc68k import pbmc68k_reduced
from ._pbmc68k_proteins import pbmc68k_simulated_proteins
from ._simulate import simulate
from ._simulate_classifier import simulate_mixture_classifier
from ._simulate_multimodal import simulate_multimodal

__all__ = [
    "pbmc68k_reduced",
    "pbmc68k_simulated_proteins",
    "simulate",
    "simulate_mixture_classifier",
    "simulate_multimodal",
]
