"""How sure parameters are, and what that means for the cells: information of genes, and variances that follow."""

from ._gene_uncertainty import GeneUncertainty
from ._information import gene_information

__all__ = ["GeneUncertainty", "gene_information"]
