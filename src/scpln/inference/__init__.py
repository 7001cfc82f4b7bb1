"""How a bound is maximised: the closed-form Poisson bound of PLN-PCA and its solver, and stochastic training. No AnnData."""

from scpln.core import ABSENT, CountData, Entries
from scpln.inference.newton import (
    FitResult,
    GaussianFamilyName,
    GenePrior,
    GenePriorName,
    describe_stuck,
    finite_mean,
    identified_rotation,
    judged,
)
from scpln.inference.newton.general import elbo_likelihood, fit_likelihood, infer_likelihood, start_gaussian
from scpln.inference.newton.poisson import elbo, fit, infer
from scpln.inference.query import CoefficientPrior, ColumnFit, StateDensity, fit_columns
from scpln.inference.sampling import FEWEST_DRAWS, Chain, log_weights, sample_exact, sampled_elbo, summarize_weights
from scpln.train import (
    RUN,
    Ascent,
    Minibatches,
    NotFiniteError,
    as_batch,
    ascend,
    distill_gaussians,
    divergence,
    random_order,
    refine,
    standardize_context,
    torch_threads,
    train_approximation,
)

from ._gaussians import fit_gaussians, gaussian_elbo, infer_gaussians, make_cell_problem

__all__ = [
    "ABSENT",
    "FEWEST_DRAWS",
    "RUN",
    "Ascent",
    "Chain",
    "CoefficientPrior",
    "ColumnFit",
    "CountData",
    "Entries",
    "FitResult",
    "GaussianFamilyName",
    "GenePrior",
    "GenePriorName",
    "Minibatches",
    "NotFiniteError",
    "StateDensity",
    "as_batch",
    "ascend",
    "describe_stuck",
    "distill_gaussians",
    "divergence",
    "elbo",
    "elbo_likelihood",
    "finite_mean",
    "fit",
    "fit_columns",
    "fit_gaussians",
    "fit_likelihood",
    "gaussian_elbo",
    "identified_rotation",
    "infer",
    "infer_gaussians",
    "infer_likelihood",
    "judged",
    "log_weights",
    "make_cell_problem",
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
