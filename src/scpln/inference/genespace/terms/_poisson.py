"""Poisson counts, in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.module import make_likelihood

from ._base import Expected

if TYPE_CHECKING:
    from scpln.core import Array, Threads
    from scpln.inference.genespace._observations import Observations
    from scpln.module import Likelihood

    from ._base import Cells


class PoissonTerms:
    r""":math:`E[\ell] = y (o + m) - A - \log y!`, :math:`E[\ell'] = y - A` and :math:`-E[\ell''] = A = \exp(o + m + \tfrac12 v)`."""

    def __init__(self, observations: Observations) -> None:
        self.observations = observations

    @property
    def coordinates(self) -> Array:
        """There are no parameters, (0,)."""
        return np.zeros(0)

    @property
    def likelihood(self) -> Likelihood:
        """Without parameters."""
        return make_likelihood("poisson", self.observations.shape[1])

    @property
    def inflation(self) -> None:
        """There is none."""
        return

    def expected(self, cells: Cells, mean: Array, variance: Array) -> Expected:
        """Expectations of some cells; an entry that was not observed has none."""
        seen = self.observations
        counts, log_rates = seen.counts[cells], seen.offsets[cells] + mean
        counted = np.einsum("np,np->n", counts, log_rates)
        rates = seen.rates(cells, log_rates + 0.5 * variance)
        return Expected(counted - rates.sum(1) - seen.log_factorial[cells], counts - rates, rates)

    def steepness(self, cells: Cells) -> float:
        """Rates are exponentials."""
        return 1.0

    def start(self, mean: Array) -> None:
        """There are no parameters."""

    def move(self, coordinates: Array) -> None:
        """There are no parameters."""

    def slope(self, cells: slice, mean: Array, variance: Array) -> Array:
        """There are no parameters, (0,)."""
        return self.coordinates

    def precondition(self, slope: Array) -> Array:
        """There are no parameters, (0,)."""
        return slope

    def learn_curvature(self, mean: Array, variance: Array, pool: Threads) -> None:
        """There are no parameters."""
