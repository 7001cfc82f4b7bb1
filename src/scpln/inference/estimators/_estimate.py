"""What every estimator returns, and what it is made of when it ends."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scpln.inference.genespace import GenePosteriors, PLNResult, infer_pln
from scpln.inference.newton._convergence import History, finite_mean, judged
from scpln.module.likelihoods import Poisson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.inference.genespace import PosteriorName
    from scpln.module import Likelihood
    from scpln.module.covariances import Covariance


@dataclass(frozen=True)
class Estimate(PLNResult):
    r"""A model that was fitted by another estimator than the variational one.

    Posteriors are the Gaussian ones at the estimated B and Σ; `elbo` is what the estimator knows of each cell's log-likelihood.

    Attributes
    ----------
    summary
        Numbers that say how the estimator fared, by name.
    """

    summary: dict[str, float] = field(default_factory=dict)


@dataclass
class Search:
    """Where an estimator has come: the best B and Σ so far, and how it got there."""

    data: CountData
    coefficients: Array
    covariance: Covariance
    history: History
    converged: bool = False
    reason: str = ""

    def take(self, coefficients: Array, covariance: Covariance) -> None:
        """Take over B and Σ."""
        self.coefficients, self.covariance = coefficients.copy(), copy.deepcopy(covariance)

    def interrupted(self) -> None:
        """Note an interrupt (Ctrl-C)."""
        self.converged = False
        self.reason = f"interrupted after {len(self.history.elbo)} iterations; what they reached is kept"

    def posteriors(self, posterior: PosteriorName = "fullrank", n_threads: int | None = 1) -> GenePosteriors:
        """Gaussian posteriors of all cells at B and Σ as they are."""
        return infer_pln(self.data, self.coefficients, self.covariance, posterior=posterior, n_threads=n_threads)

    def estimate(
        self,
        cells: GenePosteriors,
        bounds: Array,
        reason: str,
        summary: dict[str, float],
        likelihood: Likelihood | None = None,
    ) -> Estimate:
        """The result, with what is known of each cell's log-likelihood, (n,)."""
        cells = replace(cells, elbo=bounds)
        if not self.history.elbo:
            self.history.add(finite_mean(bounds), finite_mean(bounds))
        converged, reason = judged(self.converged, reason, bounds)
        return Estimate(
            **vars(cells),
            coefficients=self.coefficients,
            covariance=self.covariance,
            likelihood=Poisson(len(self.coefficients)) if likelihood is None else likelihood,
            history=self.history.lists,
            converged=converged,
            reason=reason,
            summary=summary,
        )


def take_cells(cells: GenePosteriors, chosen: NDArray[np.intp]) -> GenePosteriors:
    """Posteriors of some cells."""
    given = cells.mean[chosen], cells.variance[chosen], cells.weight[chosen]
    return GenePosteriors(*given, cells.log_det[chosen], cells.elbo[chosen], cells.stuck[:0])
