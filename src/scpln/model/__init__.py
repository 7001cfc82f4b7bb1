"""Models: AnnData or MuData in, fitted results out.

Examples
--------
>>> import scpln
>>> adata = scpln.datasets.pbmc68k_reduced()
>>> scpln.model.setup_anndata(adata, layer="counts", size_factor_key="n_counts")
>>> model = scpln.model.PLNPCA(adata, n_latent=5)
>>> model.train(progress=False)
>>> model.get_latent_representation().shape
(700, 5)
"""

from scpln import data as _data
from scpln.model.autoencoder import CountGMVAE, CountVAE
from scpln.model.base import ScplnModel, explained
from scpln.model.labels import LabelClassifier, LabelRegressor
from scpln.model.mixture_classifier import MixtureClassifier
from scpln.model.pln import PLN
from scpln.model.pln_ar import PLNAR
from scpln.model.pln_lda import PLNLDA
from scpln.model.pln_mixture import PLNMixture
from scpln.model.pln_tree import PLNTree
from scpln.model.plnpca import PLNPCA
from scpln.model.tree_walk import TreeWalk
from scpln.model.vqvae import CountVQVAE

setup_anndata = explained(_data.setup_anndata)
setup_mudata = explained(_data.setup_mudata)

__all__ = [
    "PLN",
    "PLNAR",
    "PLNLDA",
    "PLNPCA",
    "CountGMVAE",
    "CountVAE",
    "CountVQVAE",
    "LabelClassifier",
    "LabelRegressor",
    "MixtureClassifier",
    "PLNMixture",
    "PLNTree",
    "ScplnModel",
    "TreeWalk",
    "setup_anndata",
    "setup_mudata",
]
