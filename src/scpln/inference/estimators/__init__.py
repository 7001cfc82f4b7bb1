"""Estimators of the Poisson log-normal model in gene space beyond the Gaussian variational one."""

from ._count_moments import CountMoments, count_moments
from ._estimate import Estimate
from ._importance import LEAST_EFFECTIVE, default_draws, fit_importance
from ._latent_importance import RefinedPCA, fit_pca_importance, pca_draws, refine_pca
from ._nuts import LARGEST_R_HAT, fit_nuts
from ._quadrature import fit_quadrature, has_quadrature
from ._score import ScoreGradient, score_gradient
from ._score_function import fit_score_function, infer_score_function

__all__ = [
    "LARGEST_R_HAT",
    "LEAST_EFFECTIVE",
    "CountMoments",
    "Estimate",
    "RefinedPCA",
    "ScoreGradient",
    "count_moments",
    "default_draws",
    "fit_importance",
    "fit_nuts",
    "fit_pca_importance",
    "fit_quadrature",
    "fit_score_function",
    "has_quadrature",
    "infer_score_function",
    "pca_draws",
    "refine_pca",
    "score_gradient",
]
