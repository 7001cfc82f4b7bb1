"""Newton's method for any likelihood, by quadrature."""

from ._block import LikelihoodBlock, LogRateFeatures, block_size
from ._bound import elbo_likelihood
from ._factor_analysis import start_gaussian
from ._fit import fit_likelihood
from ._infer import INFER_NODES, infer_likelihood, n_nodes, optimize_posteriors_likelihood, precision
from ._problem import GeneralCells
from ._unit import in_unit, residual_log_spread

__all__ = [
    "INFER_NODES",
    "GeneralCells",
    "LikelihoodBlock",
    "LogRateFeatures",
    "block_size",
    "elbo_likelihood",
    "fit_likelihood",
    "in_unit",
    "infer_likelihood",
    "n_nodes",
    "optimize_posteriors_likelihood",
    "precision",
    "residual_log_spread",
    "start_gaussian",
]
