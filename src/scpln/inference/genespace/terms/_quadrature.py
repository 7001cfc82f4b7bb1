"""Any likelihood, by Gauss-Hermite quadrature of each entry."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from scpln.core import ABSENT, ranges
from scpln.inference.expectations import Quadrature
from scpln.module import CountBatch

from ._base import Expected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.inference.expectations import Expectation
    from scpln.inference.genespace._observations import Observations
    from scpln.module import Likelihood

    from ._base import Cells

#: Nodes for each entry: in gene space, variances of log-rates are larger than in a few dimensions. At variances up to 1 an error is below 1e-6 nats, and
#: 1e-4 of zeros that may be inflated.
NODES = 32
#: Entries × nodes that are evaluated at a time.
BLOCK_EVALUATIONS = 672 * 1024
#: Curvature by the likelihood's parameters: the change that it is taken over, and the nodes that it is taken with.
DIFFERENCE, COARSE_NODES = 0.05, 3
#: Least curvature by a parameter, and of a log-rate whose steepness is asked for.
LEAST_CURVATURE, SMALLEST = 1e-2, 1e-12


class QuadratureTerms:
    r"""Expectations over nodes.

    With nodes x and weights ω of a standard normal distribution, and :math:`\eta_k = o + m + \sqrt v\, x_k`,

    .. math:: E[\ell] = \sum_k \omega_k \ell(\eta_k), \quad E[\ell'] = \sum_k \omega_k \ell'(\eta_k), \quad
        -E[\ell''] = -\frac{1}{\sqrt v} \sum_k \omega_k x_k \ell'(\eta_k),

    the derivatives of the sum itself. Parameters are optimised together with B and Σ, along their slopes.
    """

    def __init__(self, observations: Observations, likelihood: Likelihood) -> None:
        self.observations = observations
        self._names = [name for name, _ in likelihood.named_parameters()]
        self._rule = Quadrature(likelihood, NODES, np.float64, requires_grad=True, with_third=True)
        self._steepness = np.ones(observations.shape)
        self._inverse = np.ones(self._rule.parameters.shape)  # about the inverse curvature by γ, (p, g)

    @property
    def likelihood(self) -> Likelihood:
        """A copy."""
        return copy.deepcopy(self._rule.likelihood).requires_grad_(False)

    @property
    def coordinates(self) -> Array:
        """Parameters γ, gene by gene."""
        return self._rule.parameters.ravel()

    def move(self, coordinates: Array) -> None:
        """Take γ from coordinates."""
        self._rule.parameters = coordinates.reshape(self._inverse.shape)

    def expected(self, cells: Cells, mean: Array, variance: Array) -> Expected:
        """Expectations of some cells; an entry that was not observed adds nothing."""
        found = Expected(np.empty(len(mean)), np.empty(mean.shape), np.empty(mean.shape))
        for part, some in self._parts(cells):
            got = self._expect(some, mean[part], variance[part])
            found.value[part], found.slope[part], found.curvature[part] = got.value, got.slope, got.weight
            third = np.asarray(got.third)
            ratio = np.divide(third, -got.weight, where=got.weight > SMALLEST, out=np.zeros_like(third))
            self._steepness[some] = np.clip(ratio, -1, 1)
        return found

    def steepness(self, cells: Cells) -> Array:
        """Of the entries as they were evaluated last, (n, p)."""
        return self._steepness[cells]

    @property
    def inflation(self) -> Array | None:
        """Coefficients of the logit of zero inflation, where it depends on the design."""
        return None

    def start(self, mean: Array) -> None:
        """Start parameters at moments of the counts around rates with these logarithms."""
        likelihood = self._rule.likelihood
        rates = self.observations.rates(slice(None), self.observations.offsets + mean)
        likelihood.initialise([(self._counts(np.arange(len(rates))), torch.from_numpy(rates))])

    def slope(self, cells: slice, mean: Array, variance: Array) -> Array:
        """Slope by γ, (p g,)."""
        return self._slope(self._rule, cells, mean, variance).ravel()

    def precondition(self, slope: Array) -> Array:
        """With the curvature by each parameter alone."""
        return self._inverse.ravel() * slope

    def learn_curvature(self, mean: Array, variance: Array, pool: Threads) -> None:
        """By differences of slopes, with few nodes."""
        here, curvature = self._rule.with_nodes(COARSE_NODES), np.zeros_like(self._inverse)
        g = len(curvature.T)
        for k in range(g):
            moved = self._rule.with_nodes(COARSE_NODES)
            moved.parameters = here.parameters + DIFFERENCE * np.eye(g)[k]

            def fall(start: int, stop: int, k: int = k, moved: Quadrature = moved) -> Array:
                cells = slice(start, stop)
                before, after = (self._slope(each, cells, mean[cells], variance[cells]) for each in (here, moved))
                return before[:, k] - after[:, k]

            curvature[:, k] = sum(pool.map_chunks(fall, len(mean), 1)) / DIFFERENCE
        self._inverse = 1 / np.maximum(np.abs(curvature), LEAST_CURVATURE)

    def _expect(self, cells: NDArray[np.intp], mean: Array, variance: Array) -> Expectation:
        return self._rule.expect(self._counts(cells), self._log_rates(cells, mean), variance)

    def _slope(self, rule: Quadrature, cells: slice, mean: Array, variance: Array) -> Array:
        total = np.zeros_like(self._inverse)
        for part, some in self._parts(cells):
            total += rule.parameter_gradient(self._counts(some), self._log_rates(some, mean[part]), variance[part])
        return total

    def _parts(self, cells: Cells) -> Iterator[tuple[slice, NDArray[np.intp]]]:
        """Cells a few at a time: which of those, and which of all."""
        n, p = self.observations.shape
        positions = np.arange(n)[cells]
        for start, stop in ranges(0, len(positions), max(1, BLOCK_EVALUATIONS // (p * NODES))):
            yield slice(start, stop), positions[start:stop]

    def _counts(self, cells: NDArray[np.intp]) -> CountBatch:
        return CountBatch.from_counts(self.observations.counts[cells], torch.float64)

    def _log_rates(self, cells: NDArray[np.intp], mean: Array) -> Array:
        """With offsets; those of entries that were not observed are so small that zeros say nothing."""
        seen = self.observations
        log_rates: Array = seen.offsets[cells] + mean
        return log_rates if seen.observed is None else np.where(seen.observed[cells], log_rates, ABSENT)
