"""Likelihoods of counts, given their log-rates."""

from ._base import CountLikelihood, Likelihood
from ._bernoulli import Bernoulli
from ._bounds import LARGEST_LOG_RATE, expected_rate, reaches_bound, soft_clamp
from ._gaussian import Gaussian
from ._joint import JointLikelihood
from ._negative_binomial import NegativeBinomial
from ._piecewise_categorical import PiecewiseCategorical
from ._poisson import Poisson
from ._poisson_lognormal import PoissonLogNormal
from ._zero_inflated import InflatedByCell, ZeroInflated, ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

#: Likelihoods by the name that models take.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zip": ZeroInflatedPoisson,
    "zinb": ZeroInflatedNegativeBinomial,
    "poisson_lognormal": PoissonLogNormal,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
}

__all__ = [
    "LARGEST_LOG_RATE",
    "LIKELIHOODS",
    "Bernoulli",
    "CountLikelihood",
    "Gaussian",
    "InflatedByCell",
    "JointLikelihood",
    "Likelihood",
    "NegativeBinomial",
    "PiecewiseCategorical",
    "Poisson",
    "PoissonLogNormal",
    "ZeroInflated",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "expected_rate",
    "make_likelihood",
    "reaches_bound",
    "soft_clamp",
]


def make_likelihood(name: str, n_genes: int, k_max: int | None = None) -> Likelihood:
    """Likelihood of `n_genes` genes, by name.

    Parameters
    ----------
    name
        One of `LIKELIHOODS`.
    n_genes
        Number of genes p.
    k_max
        Counts below it get probabilities of their own, and the distribution is that of what counts exceed it by
        (`PiecewiseCategorical`).

    Examples
    --------
    >>> make_likelihood("nb", 3)
    NegativeBinomial(3)
    >>> make_likelihood("poisson", 3, k_max=2)
    PiecewiseCategorical(
      k_max=2
      (base): Poisson(3)
    )
    """
    if name not in LIKELIHOODS:
        choices = ", ".join(repr(choice) for choice in LIKELIHOODS)
        msg = f"likelihood={name!r} is not one of {choices}."
        raise ValueError(msg)
    base = LIKELIHOODS[name](n_genes)
    return base if k_max is None else PiecewiseCategorical(base, k_max)
