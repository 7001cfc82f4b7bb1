"""Expectations of a likelihood under Gaussian log-rates, by Gauss-Hermite quadrature."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from scpln.module import JointLikelihood

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scpln.core import Array, DType
    from scpln.module import CountBatch, Likelihood

#: What is added to parameters of single entries, (n, p) each, by name.
Deviations: TypeAlias = dict[str, torch.Tensor]
#: Smallest variance that derivatives are taken over, by precision: closer nodes differ by rounding only.
SMALLEST_VARIANCE: dict[DType, float] = {np.float32: 1e-6, np.float64: 1e-12}


@lru_cache
def gauss_hermite(n_nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes x and weights w with Σ_k w_k f(x_k) = E[f(x)] for x ~ N(0, 1) and polynomials f of degree below 2 `n_nodes`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return nodes, weights / weights.sum()


@dataclass
class Expectation:
    """Expectations over η ~ N(μ_ij, v_ij) for n cells and p genes, with ℓ = log p(y_ij | η)."""

    value: Array  # Σ_j E[ℓ], (n,), float64
    slope: Array  # E[ℓ'], (n, p): the derivative by μ
    weight: Array  # −E[ℓ''], (n, p): minus twice the derivative by v
    parameters: Array  # Σ_i E[∂ℓ/∂γ_j], (p, g), float64, for the g parameters γ_j of every gene
    third: Array | None = None  # E[ℓ'''], (n, p), if it was asked for

    def take(self, cells: NDArray[np.intp]) -> Expectation:
        """Expectations of some of the cells, without the sum over all."""
        nothing = np.zeros_like(self.parameters)
        return Expectation(self.value[cells], self.slope[cells], self.weight[cells], nothing)


class Quadrature:
    r"""Expected log-likelihoods and their derivatives.

    With nodes x and weights w of the standard normal distribution, and :math:`\eta_k = \mu + \sqrt v\, x_k`,

    .. math::
        E[\ell] = \sum_k w_k \ell(\eta_k), \quad \frac{\partial E[\ell]}{\partial \mu} = \sum_k w_k \ell'(\eta_k), \quad
        2 \frac{\partial E[\ell]}{\partial v} = E[\ell''] = \frac{1}{\sqrt v} \sum_k w_k x_k \ell'(\eta_k),

    the identities of Bonnet and Price [1]_: first derivatives of the likelihood are all that is needed. They are the
    derivatives of the sum over nodes itself, whatever their number.

    Parameters
    ----------
    likelihood
        It is copied.
    n_nodes
        Nodes.
    dtype
        Precision.
    requires_grad
        Whether derivatives by the likelihood's parameters are wanted.
    centred
        Whether the log-rates that moments are given of are logarithms of expected counts, and not what the likelihood calls η
        (`Likelihood.log_mean_offset`): a change of the likelihood's parameters then leaves the expected counts as they are.
    with_third
        Whether third derivatives are wanted, :math:`E[\ell'''] = \frac1v \sum_k w_k (x_k^2 - 1) \ell'(\eta_k)`.

    References
    ----------
    .. [1] Opper and Archambeau (2009), The variational Gaussian approximation revisited. Neural Computation 21, 786-792.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        n_nodes: int,
        dtype: DType,
        *,
        requires_grad: bool = False,
        centred: bool = False,
        with_third: bool = False,
    ) -> None:
        self.dtype, self._centred = dtype, centred
        self._likelihood = copy.deepcopy(likelihood).to("cpu", torch_dtype(dtype)).requires_grad_(requires_grad)
        nodes, weights = gauss_hermite(n_nodes)
        self._weights = weights
        moments = [np.ones_like(nodes), nodes, *([nodes**2 - 1] if with_third else [])]
        self._moments = torch.from_numpy(np.stack(moments).astype(dtype))

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood, in the precision of the quadrature."""
        return self._likelihood

    @property
    def parameters(self) -> Array:
        """The genes' parameters γ, (p, g)."""
        return read_parameters(self._likelihood)

    @parameters.setter
    def parameters(self, values: Array) -> None:
        write_parameters(self._likelihood, values)

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all genes together."""
        return sum(parameter.numel() for parameter in self._likelihood.parameters())

    @property
    def n_evaluations(self) -> int:
        """Numbers that an expectation of one cell is made of: K nodes × p genes."""
        return len(self._weights) * self._likelihood.n_genes

    @property
    def weights(self) -> Array:
        """Weights ω of the nodes, (K,)."""
        return self._weights

    def zero_probabilities(self, mean: Array, variance: Array) -> Array:
        """Probabilities of zeros under the distribution that a zero-inflated likelihood has around, at the nodes, (K, n, p)."""
        base: Likelihood = self._likelihood.base  # type: ignore[assignment]
        with torch.no_grad():
            eta = self._log_rates(mean, np.sqrt(np.maximum(variance, 0))).double()
            return base.log_prob(eta, torch.zeros_like(eta)).exp().numpy()

    def with_nodes(self, n_nodes: int) -> Quadrature:
        """A copy with other nodes."""
        return Quadrature(
            self._likelihood, n_nodes, self.dtype, requires_grad=bool(self._trainable), centred=self._centred
        )

    def value(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """Σ_j E[ℓ_ij] of each cell, (n,), at means μ and variances v of log-rates, (n, p) each."""
        with torch.no_grad():
            eta = self._log_rates(mean, np.sqrt(np.maximum(variance, 0)))
            return self._average(self._log_likelihood(eta, counts))

    def expect(
        self, counts: CountBatch, mean: Array, variance: Array, deviations: Deviations | None = None
    ) -> Expectation:
        """Expectations and their derivatives, at means μ and variances v of log-rates, (n, p) each, with deviations of parameters."""
        spread = np.sqrt(np.maximum(variance, SMALLEST_VARIANCE[self.dtype]))
        eta = self._log_rates(mean, spread)
        value, (slopes, *by_parameter) = self._differentiate(counts, eta.requires_grad_(), [eta], deviations)
        slope, tilt, *third = (self._moments @ slopes.flatten(1)).view(-1, *mean.shape).numpy()
        np.divide(tilt, spread, out=tilt)
        weight = np.negative(tilt, out=tilt)
        third = [each / spread**2 for each in third]
        return Expectation(value, slope, weight, _stack(by_parameter, mean.shape[1]), *third)

    def parameter_gradient(self, counts: CountBatch, mean: Array, variance: Array) -> Array:
        """Σ_i E[∂ℓ/∂γ_j], (p, g), alone."""
        if not self._trainable:
            return np.zeros((mean.shape[1], 0))
        eta = self._log_rates(mean, np.sqrt(np.maximum(variance, 0)))
        return _stack(self._differentiate(counts, eta, [])[1], mean.shape[1])

    def deviation_gradient(
        self, counts: CountBatch, mean: Array, variance: Array, deviations: Deviations
    ) -> tuple[Array, Deviations]:
        """Σ_i E[∂ℓ/∂γ_j], (p, g), and E[∂ℓ/∂deviation_ij], (n, p) each, by name."""
        eta = self._log_rates(mean, np.sqrt(np.maximum(variance, 0)))
        leaves = {name: each.detach().requires_grad_() for name, each in deviations.items()}
        _, found = self._differentiate(counts, eta, [*leaves.values()], leaves)
        by_entry = dict(zip(leaves, found, strict=False))
        return _stack(found[len(leaves) :], mean.shape[1]), by_entry

    @property
    def _trainable(self) -> list[torch.Tensor]:
        return [parameter for parameter in self._likelihood.parameters() if parameter.requires_grad]

    def _log_rates(self, mean: Array, spread: Array) -> torch.Tensor:
        """Log-rates at the nodes, (K, n, p)."""
        return torch.addcmul(torch.from_numpy(mean), self._moments[1, :, None, None], torch.from_numpy(spread))

    def _differentiate(
        self,
        counts: CountBatch,
        eta: torch.Tensor,
        inputs: list[torch.Tensor],
        deviations: Deviations | None = None,
    ) -> tuple[Array, list[torch.Tensor]]:
        """Expected values (n,), and gradients of their sum by `inputs` and by the parameters."""
        with torch.enable_grad():
            value = self._log_likelihood(eta, counts, deviations)
            weights = torch.from_numpy(self._weights).to(value.dtype)[:, None].expand_as(value)
            gradients = torch.autograd.grad(value, [*inputs, *self._trainable], weights)
        return self._average(value.detach()), list(gradients)

    def _log_likelihood(
        self, eta: torch.Tensor, counts: CountBatch, deviations: Deviations | None = None
    ) -> torch.Tensor:
        offset = self._likelihood.log_mean_offset()
        if self._centred and bool(offset.any()):
            eta = eta - offset
        return self._likelihood.log_likelihood(eta, counts, deviations)

    def _average(self, value: torch.Tensor) -> Array:
        return self._weights @ value.double().numpy()


def read_parameters(likelihood: Likelihood) -> Array:
    """Parameters γ of all genes, (p, g), float64; with 0 where genes have fewer than others."""
    if isinstance(likelihood, JointLikelihood):
        return stack_padded([read_parameters(part) for part in likelihood.parts.values()])
    return _stack([parameter.detach() for parameter in likelihood.parameters()], likelihood.n_genes)


def write_parameters(likelihood: Likelihood, values: Array) -> None:
    """Set the parameters of all genes to `values`, (p, g)."""
    if isinstance(likelihood, JointLikelihood):
        for part, genes in zip(likelihood.parts.values(), likelihood.slices, strict=True):
            write_parameters(part, values[genes, : len(list(part.parameters()))])
        return
    with torch.no_grad():
        for parameter, value in zip(likelihood.parameters(), values.T, strict=True):
            parameter.copy_(torch.from_numpy(value.copy()))


def stack_padded(parts: Sequence[Array]) -> Array:
    """Rows of all parts, (p_m, g_m) each, with columns of zeros where a part has fewer."""
    width = max(part.shape[1] for part in parts)
    return np.vstack([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def torch_dtype(dtype: DType) -> torch.dtype:
    """The same precision in torch."""
    return torch.float64 if dtype is np.float64 else torch.float32


def _stack(vectors: list[torch.Tensor], p: int) -> Array:
    columns = [vector.double().cpu().numpy() for vector in vectors]
    return np.stack(columns, 1) if columns else np.zeros((p, 0))
