"""Which expectations a likelihood has."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from scpln.module.likelihoods import InflatedByCell

from ._by_cell import InflationByCell
from ._inflation import InflationByDesign, SharedInflation
from ._poisson import PoissonTerms
from ._quadrature import QuadratureTerms

if TYPE_CHECKING:
    from scpln.core import Array
    from scpln.inference.genespace._observations import Observations
    from scpln.module import Likelihood
    from scpln.module.likelihoods import ZeroInflated

    from ._base import Terms
    from ._inflation import ZeroInflation


def terms_of(
    observations: Observations,
    likelihood: Likelihood | None,
    zero_inflation: ZeroInflation = "gene",
    inflation: Array | None = None,
) -> Terms:
    """Expectations of any likelihood, which is copied; of Poisson counts if None.

    With coefficients `inflation` (p, d), or ``zero_inflation="covariates"``, excess zeros depend on the design; with ``zero_inflation="cell"``, or
    `InflatedByCell`, on the cell.
    """
    if likelihood is None or likelihood.is_poisson:
        return PoissonTerms(observations)
    if likelihood.n_genes != observations.shape[1]:
        msg = f"likelihood has {likelihood.n_genes} genes, but the data {observations.shape[1]}."
        raise ValueError(msg)
    if isinstance(likelihood, InflatedByCell):
        return InflationByCell(observations, likelihood)
    if zero_inflation == "cell":
        return InflationByCell(observations, InflatedByCell(cast("ZeroInflated", likelihood).base))
    if inflation is not None or zero_inflation == "covariates":
        return InflationByDesign(observations, likelihood, inflation)
    if zero_inflation == "single":
        return SharedInflation(observations, likelihood)
    return QuadratureTerms(observations, likelihood)
