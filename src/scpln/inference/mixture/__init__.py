"""Gaussian mixtures whose components are learned from cells' posteriors with their covariances."""

from ._components import Components, Expectation, conditional, expect
from ._em import ComponentPrior, MixtureFit, fit_components
from ._genes import GenesFit, fit_genes
from ._moves import overlap
from ._posteriors import MixturePosteriors, infer_mixture
from ._search import choose_n_components, fit_mixture
from ._sites import Sites

__all__ = [
    "ComponentPrior",
    "Components",
    "Expectation",
    "GenesFit",
    "MixtureFit",
    "MixturePosteriors",
    "Sites",
    "choose_n_components",
    "conditional",
    "expect",
    "fit_components",
    "fit_genes",
    "fit_mixture",
    "infer_mixture",
    "overlap",
]
