"""How a bound is maximised: the closed-form Poisson bound of PLN-PCA and its solver, and stochastic training. No AnnData."""

from ._amortize import divergence, imitate, standardize_context, train_approximation
from ._ascent import Ascent, NotFiniteError, ascend
from ._bound import elbo
from ._data import ABSENT, CountData
from ._factor_analysis import start_gaussian
from ._fit import FitResult, fit
from ._gaussian import Posterior
from ._identify import identified_rotation
from ._importance import log_weights, sampled_elbo, summarize_weights
from ._infer import infer
from ._likelihood_bound import elbo_likelihood
from ._likelihood_fit import fit_likelihood
from ._likelihood_infer import infer_likelihood
from ._minibatches import RUN, Minibatches, as_batch, random_order
from ._nuts import FEWEST_DRAWS, Chain, sample_exact
from ._parallel import torch_threads
from ._query import ColumnFit, fit_columns
from ._query_prior import CoefficientPrior
from ._refine import refine

__all__ = [
    "ABSENT",
    "FEWEST_DRAWS",
    "RUN",
    "Ascent",
    "Chain",
    "CoefficientPrior",
    "ColumnFit",
    "CountData",
    "FitResult",
    "Minibatches",
    "NotFiniteError",
    "Posterior",
    "as_batch",
    "ascend",
    "divergence",
    "elbo",
    "elbo_likelihood",
    "fit",
    "fit_columns",
    "fit_likelihood",
    "identified_rotation",
    "imitate",
    "infer",
    "infer_likelihood",
    "log_weights",
    "random_order",
    "refine",
    "sample_exact",
    "sampled_elbo",
    "standardize_context",
    "start_gaussian",
    "summarize_weights",
    "torch_threads",
    "train_approximation",
]
