"""Zero inflation with a probability of each cell, which is at its best wherever the cell's posterior is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import logit

from scpln.inference.genespace._observations import Observations

from ._inflation import GATE
from ._quadrature import QuadratureTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.inference.expectations import Deviations, Expectation, Quadrature
    from scpln.module import Likelihood
    from scpln.module.likelihoods import InflatedByCell

#: Where a search starts, the least probability of an excess zero and of none, most steps, and the change that ends them.
START, LEAST, STEPS, CHANGE = 0.1, 1e-8, 100, 1e-13


class InflationByCell(QuadratureTerms):
    r"""One probability of an excess zero for all genes of a cell, which maximises what the cell's posterior expects.

    Given the posterior of z, with :math:`e_{jk} = p_0(0 \mid \eta_{jk})` at the nodes of a zero entry j, and m entries that are not zero,

    .. math:: \pi_i = \arg\max_\pi \sum_{j : y_{ij} = 0} \sum_k \omega_k \log(\pi + (1 - \pi) e_{jk}) + m \log(1 - \pi),

    which is concave: there is one maximum, which Newton's steps within a bracket find. As π is at its best at any posterior, slopes of the bound
    by the posterior, and by all parameters, are those with π held. A cell without a count has π = 1, and one without a zero π = 0, both within 1e-8.
    """

    def __init__(self, observations: Observations, likelihood: Likelihood) -> None:
        super().__init__(observations, likelihood)
        self._probabilities = np.full(len(observations.counts), START)
        zero = observations.counts == 0
        seen = np.ones(zero.shape, bool) if observations.observed is None else observations.observed
        self._zeros, self._nonzeros = zero & seen, (~zero & seen).sum(1)

    def inflation_of(self, mean: Array, variance: Array) -> Array:
        """π of all cells at given means and variances of their log-rates, (n,)."""
        for part, some in self._parts(slice(None)):
            self._maximize(self._rule, some, mean[part], variance[part])
        return self._probabilities.copy()

    def _expect(self, cells: NDArray[np.intp], mean: Array, variance: Array) -> Expectation:
        gates = self._maximize(self._rule, cells, mean, variance)
        return self._rule.expect(self._counts(cells), self._log_rates(cells, mean), variance, gates)

    def _slope(self, rule: Quadrature, cells: slice, mean: Array, variance: Array) -> Array:
        total = np.zeros_like(self._inverse)
        for part, some in self._parts(cells) if total.size else ():
            gates = self._maximize(self._rule, some, mean[part], variance[part])
            moments = self._log_rates(some, mean[part]), variance[part]
            total += rule.deviation_gradient(self._counts(some), *moments, gates)[0]
        return total

    def _maximize(self, rule: Quadrature, cells: NDArray[np.intp], mean: Array, variance: Array) -> Deviations:
        """Bring π of some cells to its optimum; its logits as deviations."""
        zeros, m = self._zeros[cells], self._nonzeros[cells]
        absent = 1 - rule.zero_probabilities(self._log_rates(cells, mean), variance)  # 1 − e, (K, n, p)
        weights = rule.weights[:, None, None] * zeros
        low, high = np.full(len(cells), LEAST), np.full(len(cells), 1 - LEAST)
        at = np.clip(self._probabilities[cells], low, high)
        at[m == 0], at[~zeros.any(1)] = 1 - LEAST, LEAST
        for _ in range(STEPS):
            share = absent / (1 - (1 - at)[:, None] * absent)
            first = weights * share
            slope = first.sum((0, 2)) - m / (1 - at)
            low, high = np.where(slope > 0, at, low), np.where(slope > 0, high, at)
            step = slope / np.maximum((first * share).sum((0, 2)) + m / (1 - at) ** 2, LEAST)
            after = at + step
            after = np.where((after <= low) | (after >= high), 0.5 * (low + high), after)
            change, at = np.abs(after - at), after
            if (change < CHANGE + 1e-10 * at).all():
                break
        self._probabilities[cells] = np.clip(at, LEAST, 1 - LEAST)
        logits = np.repeat(logit(self._probabilities[cells])[:, None], mean.shape[1], 1)
        return {GATE: torch.from_numpy(logits)}


def inflation_of_cells(data: CountData, likelihood: InflatedByCell, mean: Array, variance: Array) -> Array:
    """Probability of an excess zero of each cell, (n,), by maximum of the bound at its posterior, with all else as it is.

    Parameters
    ----------
    data
        Counts, offsets and design of the cells; entries that were not observed say nothing.
    likelihood
        Distribution of the counts, with its parameters.
    mean, variance
        Of log-rates without offsets under the cells' posteriors, (n, p).

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.inference import CountData
    >>> from scpln.inference.genespace.terms import inflation_of_cells
    >>> from scpln.module.likelihoods import InflatedByCell, Poisson
    >>> data = CountData(np.array([[9, 0, 8, 0], [9, 9, 9, 9]]), np.zeros(2), np.ones((2, 1)))
    >>> inflation_of_cells(data, InflatedByCell(Poisson(4)), np.full((2, 4), 2.0), np.full((2, 4), 0.1)).round(2)
    array([0.5, 0. ])
    """
    return InflationByCell(Observations.of(data), likelihood).inflation_of(mean, variance)
