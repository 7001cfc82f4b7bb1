"""Observation laws of counts, given their log-rates."""

from ._base import CountLikelihood, Likelihood, bound_log_rate, soft_clamp
from ._bernoulli import Bernoulli
from ._gaussian import Gaussian
from ._negative_binomial import NegativeBinomial
from ._poisson import Poisson
from ._zero_inflated import ZeroInflated, ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

#: Observation laws by the name that models take.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zip": ZeroInflatedPoisson,
    "zinb": ZeroInflatedNegativeBinomial,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
}

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "CountLikelihood",
    "Gaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "ZeroInflated",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "bound_log_rate",
    "make_likelihood",
    "soft_clamp",
]


def make_likelihood(name: str, n_genes: int) -> Likelihood:
    """Observation law of `n_genes` genes, by name.

    Examples
    --------
    >>> make_likelihood("nb", 3)
    NegativeBinomial(3)
    """
    if name not in LIKELIHOODS:
        choices = ", ".join(repr(choice) for choice in LIKELIHOODS)
        msg = f"likelihood={name!r} is not one of {choices}."
        raise ValueError(msg)
    return LIKELIHOODS[name](n_genes)
