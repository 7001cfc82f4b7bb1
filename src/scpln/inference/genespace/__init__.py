"""The Poisson log-normal model in gene space: a latent log-rate for every gene, with any covariance of genes."""

from ._fit import fit_pln
from ._infer import PosteriorName, infer_pln, pln_elbo, posterior_covariance
from ._result import GenePosteriors, PLNResult
from .terms import ZeroInflation, inflation_of_cells

__all__ = [
    "GenePosteriors",
    "PLNResult",
    "PosteriorName",
    "ZeroInflation",
    "fit_pln",
    "infer_pln",
    "inflation_of_cells",
    "pln_elbo",
    "posterior_covariance",
]
