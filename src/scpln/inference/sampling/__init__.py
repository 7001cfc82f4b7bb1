"""Draws: importance weights, and the exact posterior by NUTS."""

from ._importance import log_weights, sampled_elbo, summarize_weights
from ._nuts import FEWEST_DRAWS, Chain, sample_exact

__all__ = ["FEWEST_DRAWS", "Chain", "log_weights", "sample_exact", "sampled_elbo", "summarize_weights"]
