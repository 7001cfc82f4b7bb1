"""Functions in scanpy's manner: an AnnData in, the same AnnData annotated; and what a fit is worth."""

from ._autoencoders import count_gmvae, count_vae
from ._composition import composition
from ._evaluate import Evaluation, evaluate
from ._lognormal import pln, plnpca
from ._posterior_predictive import posterior_predictive
from ._rank_genes import rank_genes

__all__ = [
    "Evaluation",
    "composition",
    "count_gmvae",
    "count_vae",
    "evaluate",
    "pln",
    "plnpca",
    "posterior_predictive",
    "rank_genes",
]
