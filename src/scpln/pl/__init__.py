"""Figures, drawn from what is stored in an AnnData; a fitted model is not needed.

Each function takes the axes to draw on as ``ax`` (several panels: one for each), ``show`` and ``save`` (the name of a
file), and returns the axes: of a figure with several panels an array of them. Components and latent dimensions are
numbered from 1.
"""

from ._classifiers import mixture_classifier, reliability, risk_coverage
from ._clusters import cluster_probabilities
from ._codes import code_labels, code_usage
from ._correlation import correlation_circle, gene_correlation
from ._diagnostics import posterior_diagnostics
from ._latent import latent
from ._loadings import loadings
from ._mixture import mixture_components
from ._networks import network
from ._predictive import posterior_predictive
from ._ranks import rank_selection
from ._training import history
from ._trees import tree
from ._variance import variance_explained

__all__ = [
    "cluster_probabilities",
    "code_labels",
    "code_usage",
    "correlation_circle",
    "gene_correlation",
    "history",
    "latent",
    "loadings",
    "mixture_classifier",
    "mixture_components",
    "network",
    "posterior_diagnostics",
    "posterior_predictive",
    "rank_selection",
    "reliability",
    "risk_coverage",
    "tree",
    "variance_explained",
]
