"""What coefficients of new categories are expected to be, before their cells are looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array

#: Steps of the EM algorithm, and least standard deviation that the prior can have.
EM_STEPS, LEAST_SPREAD = 50, 0.01


@dataclass(frozen=True)
class CoefficientPrior:
    r"""Prior of new coefficients, :math:`b_{ja} \sim N(c_{ja} + \mu_{ga}, \tau_{ga}^2)` for gene j of group g and column a.

    Parameters
    ----------
    center
        c, (p, k): what a new category is expected to be like, up to a factor that all genes of a group share.
    shift, spread
        μ and τ of each gene, (p, k): the same within a group.
    groups
        Code of each gene's group, (p,), as of the data; None for one group.
    """

    center: Array
    shift: Array
    spread: Array
    groups: NDArray[np.intp] | None = None

    @classmethod
    def with_unit_spread(cls, center: Array, groups: NDArray[np.intp] | None = None) -> Self:
        """No shift, and a standard deviation of 1."""
        return cls(center, np.zeros_like(center), np.ones_like(center), groups)

    @property
    def mean(self) -> Array:
        """Means c + μ, (p, k)."""
        return self.center + self.shift

    @property
    def precision(self) -> Array:
        """Inverse variances 1/τ², (p, k)."""
        return self.spread**-2

    def log_density(self, coefficients: Array) -> float:
        """Log-density of all coefficients (p, k) together, up to a constant."""
        standard = (coefficients - self.mean) / self.spread
        return float(-0.5 * (standard**2).sum() - np.log(self.spread).sum())

    def empirical_bayes(self, estimates: Array, precision: Array) -> CoefficientPrior:
        """The prior under which independent estimates (p, k) with these precisions (p, k) are most probable.

        By expectation maximisation, with coefficients as what is not observed.
        """
        shift, spread, values = self.shift.copy(), self.spread.copy(), estimates - self.center
        codes = np.zeros(len(values), dtype=np.intp) if self.groups is None else self.groups
        for group in np.unique(codes):
            genes = codes == group
            mu, tau = shift[genes][0], spread[genes][0]
            for _ in range(EM_STEPS):
                variance = 1 / (precision[genes] + tau**-2)
                mean = variance * (precision[genes] * values[genes] + mu / tau**2)
                mu = mean.mean(0)
                tau = np.maximum(np.sqrt(((mean - mu) ** 2 + variance).mean(0)), LEAST_SPREAD)
            shift[genes], spread[genes] = mu, tau
        return replace(self, shift=shift, spread=spread)
