"""Expectations of likelihoods under Gaussian log-rates: in closed form where there is one, otherwise by quadrature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from scpln.module import JointLikelihood

from ._quadrature import Expectation, Quadrature, stack_padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.core import Array, DType
    from scpln.module import CountBatch, Likelihood

#: Log-rates are cut here: e³⁰ is beyond any count, and keeps a step that went too far finite.
MAX_LOG_RATE = 30.0


class Expectations(Protocol):
    """Expected log-likelihoods and their derivatives, at means μ and variances v of log-rates, (n, p) each."""

    dtype: DType
    parameters: Array

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all genes together."""

    @property
    def n_evaluations(self) -> int:
        """Numbers that an expectation of one cell is made of: the genes, at each node where there are some."""

    def value(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """Σ_j E[ℓ_ij] of each cell, (n,)."""

    def expect(self, counts: CountBatch, mean: Array, variance: Array) -> Expectation:
        """Expectations and their derivatives."""

    def parameter_gradient(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """Σ_i E[∂ℓ/∂γ_j], (p, g), alone."""

    def with_nodes(self, n_nodes: int) -> Expectations:
        """A copy with other nodes."""


def expectations_of(
    likelihood: Likelihood, n_nodes: int, dtype: DType, *, requires_grad: bool = False, centred: bool = False
) -> Expectations:
    """Expectations of any likelihood, which is copied; arguments as in `Quadrature`.

    Examples
    --------
    >>> from scpln.module import CountBatch, make_likelihood
    >>> likelihoods = {"rna": make_likelihood("poisson", 2), "protein": make_likelihood("nb", 1)}
    >>> rule = expectations_of(JointLikelihood(likelihoods), 7, np.float64, requires_grad=True)
    >>> counts = CountBatch.from_counts(np.array([[1, 0, 2]]), torch.float64)
    >>> rule.expect(counts, np.zeros((1, 3)), np.full((1, 3), 0.2)).slope.round(3)
    array([[-0.105, -1.105,  0.828]])
    """
    if isinstance(likelihood, JointLikelihood):
        parts = likelihood.parts.values()
        options = {"requires_grad": requires_grad, "centred": centred}
        rules = [expectations_of(part, n_nodes, dtype, **options) for part in parts]
        return JointExpectations(rules, likelihood.sizes, dtype)
    if likelihood.is_poisson:
        return PoissonExpectations(likelihood.n_genes, dtype)
    return Quadrature(likelihood, n_nodes, dtype, requires_grad=requires_grad, centred=centred)


class PoissonExpectations:
    r"""Expectations of Poisson counts in closed form.

    .. math:: E[\ell] = y \mu - A - \log y!, \quad E[\ell'] = y - A, \quad -E[\ell''] = A = e^{\mu + v/2}

    Beyond log A = 30 the expected rate goes on along its tangent.
    """

    n_parameters = 0

    def __init__(self, n_genes: int, dtype: DType) -> None:
        self.dtype = dtype
        self.parameters: Array = np.zeros((n_genes, 0))
        self.n_evaluations = n_genes

    def value(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """Σ_j E[ℓ_ij] of each cell, (n,), relative to that at the best rates, as the likelihood computes it."""
        return self._value(counts, mean, *_rates(mean, variance))

    def expect(self, counts: CountBatch, mean: Array, variance: Array) -> Expectation:
        """Expectations and their derivatives."""
        rates, excess = _rates(mean, variance)
        value = self._value(counts, mean, rates, excess)
        return Expectation(value, counts.dense.numpy() - rates, rates, self.parameter_gradient(counts, mean, variance))

    def parameter_gradient(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """There are no parameters, (p, 0)."""
        return np.zeros((mean.shape[1], 0))

    def with_nodes(self, n_nodes: int) -> PoissonExpectations:
        """Itself: there are no nodes."""
        return self

    @staticmethod
    def _value(counts: CountBatch, mean: Array, rates: Array, excess: Array | float) -> Array:
        relative = torch.from_numpy(mean) - (counts.log_dense - 1)
        terms = torch.addcmul(-torch.from_numpy(rates * (1 + excess)), counts.dense, relative)
        return (terms.sum(1).double() + counts.saturated).numpy()


def _rates(mean: Array, variance: Array) -> tuple[Array, Array | float]:
    """Slopes of expected rates by μ, (n, p), and how far their logarithms are beyond the largest."""
    log_rates = mean + 0.5 * variance
    if not log_rates.max(initial=-np.inf) > MAX_LOG_RATE:
        return np.exp(log_rates, out=log_rates), 0.0
    excess = np.maximum(log_rates - MAX_LOG_RATE, 0)
    return np.exp(log_rates - excess), excess


class JointExpectations:
    """Expectations of modalities side by side, each by a separate rule.

    Genes have as many parameters γ as those of the modality with the most; where a modality has fewer, the others are
    0, and so is the derivative by them.

    Parameters
    ----------
    rules
        Of each modality.
    sizes
        Genes of each modality.
    dtype
        Precision.
    """

    def __init__(self, rules: Sequence[Expectations], sizes: tuple[int, ...], dtype: DType) -> None:
        self.dtype, self._rules, self._sizes = dtype, rules, sizes
        self._ends = np.cumsum(sizes)[:-1]

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all genes together."""
        return sum(rule.n_parameters for rule in self._rules)

    @property
    def n_evaluations(self) -> int:
        """Numbers that an expectation of one cell is made of."""
        return sum(rule.n_evaluations for rule in self._rules)

    @property
    def parameters(self) -> Array:
        """The genes' parameters γ, (p, g)."""
        return stack_padded([rule.parameters for rule in self._rules])

    @parameters.setter
    def parameters(self, values: Array) -> None:
        for rule, part in zip(self._rules, np.split(values, self._ends), strict=True):
            rule.parameters = part[:, : rule.parameters.shape[1]]

    def value(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """Σ_j E[ℓ_ij] of each cell, (n,)."""
        parts = self._parts(counts, mean, variance)
        return np.sum([rule.value(part, mu, v) for rule, part, mu, v in parts], axis=0)

    def expect(self, counts: CountBatch, mean: Array, variance: Array) -> Expectation:
        """Expectations and their derivatives."""
        parts = [rule.expect(part, mu, v) for rule, part, mu, v in self._parts(counts, mean, variance)]
        return Expectation(
            value=np.sum([part.value for part in parts], axis=0),
            slope=np.hstack([part.slope for part in parts]),
            weight=np.hstack([part.weight for part in parts]),
            parameters=stack_padded([part.parameters for part in parts]),
        )

    def parameter_gradient(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """Σ_i E[∂ℓ/∂γ_j], (p, g), alone."""
        parts = self._parts(counts, mean, variance)
        return stack_padded([rule.parameter_gradient(part, mu, v) for rule, part, mu, v in parts])

    def with_nodes(self, n_nodes: int) -> JointExpectations:
        """A copy with other nodes."""
        return JointExpectations([rule.with_nodes(n_nodes) for rule in self._rules], self._sizes, self.dtype)

    def _parts(
        self, counts: CountBatch, mean: Array, variance: Array
    ) -> zip[tuple[Expectations, CountBatch, Array, Array]]:
        """Rule, counts and moments of each modality."""
        moments = (np.split(each, self._ends, axis=1) for each in (mean, variance))
        return zip(self._rules, counts.split(self._sizes), *moments, strict=True)
