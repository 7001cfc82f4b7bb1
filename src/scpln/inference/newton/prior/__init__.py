"""What genes have in common, and which latent dimensions that leaves."""

from ._gene_prior import GenePrior, GenePriorName, entropy
from ._relevance import extended, reduced, relevant_axes

__all__ = ["GenePrior", "GenePriorName", "entropy", "extended", "reduced", "relevant_axes"]
