"""Zero inflation that all genes share, or that depends on the design."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from ._quadrature import LEAST_CURVATURE, QuadratureTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.expectations import Deviations, Expectation
    from scpln.inference.genespace._observations import Observations
    from scpln.module import Likelihood

#: What the probability of an excess zero depends on, the default first.
ZeroInflation: TypeAlias = Literal["gene", "single", "covariates", "cell"]
#: The parameter that is its logit.
GATE = "gate_logits"


class SharedInflation(QuadratureTerms):
    """One probability of an excess zero for all genes."""

    def __init__(self, observations: Observations, likelihood: Likelihood) -> None:
        super().__init__(observations, likelihood)
        self._is_gate = np.array([name == GATE for name in self._names])

    @property
    def coordinates(self) -> Array:
        """Parameters by gene of the base distribution, and the logit."""
        values = self._rule.parameters
        return np.append(values[:, ~self._is_gate].ravel(), values[:, self._is_gate].mean())

    def move(self, coordinates: Array) -> None:
        """Take parameters from coordinates."""
        values = np.empty(self._inverse.shape)
        values[:, ~self._is_gate] = coordinates[:-1].reshape(len(values), -1)
        values[:, self._is_gate] = coordinates[-1]
        self._rule.parameters = values

    def start(self, mean: Array) -> None:
        """With the mean of the genes' logits."""
        super().start(mean)
        self.move(self.coordinates)

    def slope(self, cells: slice, mean: Array, variance: Array) -> Array:
        """By these."""
        total = self._slope(self._rule, cells, mean, variance)
        return np.append(total[:, ~self._is_gate].ravel(), total[:, self._is_gate].sum())

    def precondition(self, slope: Array) -> Array:
        """With the curvature by each alone."""
        shared = 1 / (1 / self._inverse[:, self._is_gate]).sum()
        return np.append(self._inverse[:, ~self._is_gate].ravel(), shared) * slope


class InflationByDesign(QuadratureTerms):
    r"""Probabilities of an excess zero with :math:`\text{logit}\, \pi_{ij} = x_i \cdot a_j`; the intercept is the likelihood's own parameter."""

    def __init__(self, observations: Observations, likelihood: Likelihood, inflation: Array | None) -> None:
        super().__init__(observations, likelihood)
        self._gate, shape = self._names.index(GATE), (observations.shape[1], observations.design.shape[1] - 1)
        self._effects = np.zeros(shape) if inflation is None else np.array(inflation[:, 1:], np.float64)
        self._squares = np.square(observations.design[:, 1:]).mean(0)

    @property
    def coordinates(self) -> Array:
        """Parameters by gene, and a without intercepts."""
        return np.append(self._rule.parameters.ravel(), self._effects.ravel())

    def move(self, coordinates: Array) -> None:
        """Take parameters from coordinates."""
        own, effects = np.split(coordinates, [self._inverse.size])
        self._rule.parameters = own.reshape(self._inverse.shape)
        self._effects = effects.reshape(self._effects.shape)

    @property
    def inflation(self) -> Array:
        """Coefficients a, (p, d)."""
        return np.column_stack([self._rule.parameters[:, self._gate], self._effects])

    def slope(self, cells: slice, mean: Array, variance: Array) -> Array:
        """By these: of a, the sum of x_i times the slopes by logits."""
        own, effects = np.zeros_like(self._inverse), np.zeros_like(self._effects)
        for part, some in self._parts(cells):
            moments = self._log_rates(some, mean[part]), variance[part]
            by_gene, by_entry = self._rule.deviation_gradient(self._counts(some), *moments, self._deviations(some))
            own += by_gene
            effects += by_entry[GATE].numpy().T @ self.observations.design[some, 1:]
        return np.append(own.ravel(), effects.ravel())

    def precondition(self, slope: Array) -> Array:
        """As if covariates had mean 0 and told nothing of each other."""
        curvature = np.maximum(1 / self._inverse[:, self._gate, None] * self._squares, LEAST_CURVATURE * self._squares)
        effects = np.divide(1, curvature, where=curvature > 0, out=np.zeros_like(curvature))
        return np.append(self._inverse.ravel(), effects.ravel()) * slope

    def _deviations(self, cells: NDArray[np.intp]) -> Deviations:
        return {GATE: torch.from_numpy(self.observations.design[cells, 1:] @ self._effects.T)}

    def _expect(self, cells: NDArray[np.intp], mean: Array, variance: Array) -> Expectation:
        counts, log_rates = self._counts(cells), self._log_rates(cells, mean)
        return self._rule.expect(counts, log_rates, variance, self._deviations(cells))
