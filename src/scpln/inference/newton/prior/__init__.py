"""What genes have in common, and which latent dimensions that leaves."""

from ._gene_prior import GenePrior, GenePriorName, entropy, half_way
from ._relevance import extended, reduced, relevant_axes

__all__ = ["GenePrior", "GenePriorName", "entropy", "extended", "half_way", "reduced", "relevant_axes"]
