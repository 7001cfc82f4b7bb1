"""Criteria for the number of components."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy

if TYPE_CHECKING:
    from ._run import Run


@dataclass(frozen=True)
class Criteria:
    r"""What a mixture is worth, in nats: the higher the better.

    Attributes
    ----------
    n_components, n_parameters
        Components K and free numbers ν.
    bound
        Sum J of the cells' bounds.
    bic
        :math:`J - \tfrac12 \nu \log n`.
    icl
        The same without the entropy of what is not known of components, :math:`\sum_{ik} \tau_{ik} \log \tau_{ik}`: lower where components overlap [1]_.
    n_used
        Components that are the most probable one of some cell.

    References
    ----------
    .. [1] Biernacki, Celeux and Govaert (2000), Assessing a mixture model for clustering with the integrated completed likelihood. IEEE Transactions on Pattern Analysis and
       Machine Intelligence 22, 719-725.
    """

    n_components: int
    bound: float
    n_parameters: int
    bic: float
    icl: float
    n_used: int

    @property
    def row(self) -> dict[str, float]:
        """As a row of a table."""
        return asdict(self)


def criteria_of(run: Run) -> Criteria:
    """Those of what a search reached."""
    bound, shares = float(run.profile.posteriors.bound.sum()), run.responsibilities
    n_parameters = run.profile.parameters.n_parameters
    bic = bound - 0.5 * n_parameters * float(np.log(len(shares)))
    icl = bic + float(xlogy(shares, shares).sum())
    if not np.isfinite(icl):
        bic = icl = -np.inf
    return Criteria(run.n_components, bound, n_parameters, bic, icl, len(np.unique(run.groups)))
