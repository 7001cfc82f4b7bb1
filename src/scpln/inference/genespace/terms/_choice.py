"""Which expectations a likelihood has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._poisson import PoissonTerms
from ._quadrature import QuadratureTerms

if TYPE_CHECKING:
    from scpln.inference.genespace._observations import Observations
    from scpln.module import Likelihood

    from ._base import Terms


def terms_of(observations: Observations, likelihood: Likelihood | None) -> Terms:
    """Expectations of any likelihood, which is copied; of Poisson counts if None."""
    if likelihood is None or likelihood.is_poisson:
        return PoissonTerms(observations)
    if likelihood.n_genes != observations.shape[1]:
        msg = f"likelihood has {likelihood.n_genes} genes, but the data {observations.shape[1]}."
        raise ValueError(msg)
    return QuadratureTerms(observations, likelihood)
