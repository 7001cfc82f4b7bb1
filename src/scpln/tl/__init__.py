"""Functions in scanpy's manner: an AnnData in, the same AnnData annotated; and what a fit is worth."""

from ._autoencoders import count_gmvae, count_vae, count_vqvae
from ._composition import composition
from ._evaluate import Evaluation, evaluate
from ._gene_mixtures import pln_lda, pln_mixture
from ._lognormal import pln, pln_ar, plnpca
from ._posterior_predictive import posterior_predictive
from ._rank_genes import rank_genes
from ._select_rank import RankSelection, select_rank
from ._test_covariates import test_covariates
from .labels import label_transfer
from .mixture_classifiers import mixture_classifier
from .trees import pln_tree, tree_walk

__all__ = [
    "Evaluation",
    "RankSelection",
    "composition",
    "count_gmvae",
    "count_vae",
    "count_vqvae",
    "evaluate",
    "label_transfer",
    "mixture_classifier",
    "pln",
    "pln_ar",
    "pln_lda",
    "pln_mixture",
    "pln_tree",
    "plnpca",
    "posterior_predictive",
    "rank_genes",
    "select_rank",
    "test_covariates",
    "tree_walk",
]
