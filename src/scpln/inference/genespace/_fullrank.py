"""Posteriors with any covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._factors import inverse_factors
from ._posteriors import Posteriors
from ._states import REACH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.module.covariances import Covariance

#: Numbers in the matrices of a block of cells.
BLOCK_ENTRIES = 2 * 1024 * 1024
#: Least weight of an entry, relative to its prior precision: below that, diag V would be lost in rounding. It changes a bound by its square.
LEAST_WEIGHT = 1e-8
#: Where a step was shortened to less than this, means move alone: without weights that are 0 where curvatures are negative, others may be better off theirs.
HELD = 0.1
#: Rounds in which a direction takes the change of variances along.
ROUNDS = 2


class FullRank(Posteriors):
    r"""Posteriors with :math:`V = (\Omega + \text{diag}\, a)^{-1}`, the form that the best covariance has.

    All is computed from :math:`W = I + a^{1/2} \Sigma a^{1/2}`, whose eigenvalues are 1 or more, and never from Ω: with
    :math:`K = (\Sigma + \text{diag}(1/a))^{-1} = a^{1/2} W^{-1} a^{1/2}`,

    .. math:: V = \Sigma - \Sigma K \Sigma, \quad V_{jj} = (1 - (W^{-1})_{jj}) / a_j, \quad
        \log\det V + \log\det\Omega = -\log\det W, \quad p - \text{tr}(\Omega V) = \sum_j a_j V_{jj}.

    V itself is never formed. The bound is

    .. math:: \sum_j E[\log p(y_j \mid o_j + z_j)] - \tfrac12 \log\det W + \tfrac12 \sum_j a_j V_{jj} - \tfrac12 \alpha^T (m - Bx).
    """

    def prepare(self, covariance: Covariance) -> None:
        """Take over Σ."""
        self.prior = covariance.dense
        self.precision, self.prior_log_det = covariance.precision, covariance.log_det
        self.least = LEAST_WEIGHT / np.diagonal(self.prior)

    def block_size(self) -> int:
        """Cells whose matrices W fit into a block."""
        return int(np.clip(BLOCK_ENTRIES // self.prior.size, 8, 1024))

    def factor(self, weight: Array) -> tuple[Array, Array]:
        """T with W⁻¹ = TᵀT, its columns scaled by √a so that K = TᵀT, and log det W."""
        root = np.sqrt(weight)
        matrices = root[:, :, None] * self.prior
        matrices *= root[:, None, :]
        diagonal = np.arange(len(self.prior))
        matrices[:, diagonal, diagonal] += 1
        factors, log_det = inverse_factors(matrices)
        factors *= root[:, None, :]
        return factors, log_det

    def spread(self, factors: Array, weight: Array) -> Array:
        """Diagonals of V."""
        whitened = np.einsum("nkj,nkj->nj", factors, factors)
        return np.maximum(1 - whitened / weight, 0) / weight

    def anchor(self, cells: slice, prior_mean: Array) -> None:
        """Newton's step from the posteriors' means as they are, under the new prior: a regression of what counts say of log-rates."""
        weight = np.maximum(self.weight[cells], self.least)
        self.start, (self.factors, log_det) = cells.start, self.factor(weight)
        response = self.mean[cells] + self.slope[cells] / weight
        shift = _quadratic(self.factors, response - prior_mean)
        self.set(cells, shift, prior_mean + shift @ self.prior, prior_mean, weight, self.factors, log_det)

    def place(self, cells: slice, prior_mean: Array, mean: Array, variance: Array) -> None:
        """With the curvatures as weights."""
        weight = np.maximum(self.terms.expected(cells, mean, variance).curvature, self.least)
        self.set(cells, (mean - prior_mean) @ self.precision, mean, prior_mean, weight, *self.factor(weight))

    def set(
        self,
        cells: slice,
        shift: Array,
        mean: Array,
        prior_mean: Array,
        weight: Array,
        factors: Array,
        log_det: Array,
    ) -> None:
        """Take over posteriors of a block."""
        variance = self.spread(factors, weight)
        found = self.terms.expected(cells, mean, variance)
        proposal = (shift, mean, weight, variance, found.slope, found.curvature)
        for array, values in zip(self.state, proposal, strict=True):
            array[cells] = values
        self.bound[cells] = found.value - _divergence(log_det, weight, variance, shift, mean - prior_mean)
        self.log_det[cells] = self.prior_log_det - log_det

    def directions(self, cells: NDArray[np.intp]) -> tuple[Array, Array]:
        """Newton's changes of α and m."""
        factors = self.factors[cells - self.start]
        slope = self.slope[cells] - self.shift[cells]
        halves = self.halves(cells, self.weight[cells])
        change, direction = self.solve(factors, self.weight[cells] * halves / (1 + halves), slope)
        self.gain[cells] = 0.5 * np.einsum("np,np->n", slope, direction) + self.mismatch(cells)
        return change, direction

    def advance(self, cells: NDArray[np.intp], prior_mean: Array, change: Array, direction: Array) -> None:
        """Move m, and V with it."""
        old = self.weight[cells]
        length = self.step[cells] * np.minimum(1, REACH / np.maximum(np.abs(direction).max(1), 1e-300))
        direction *= length[:, None]
        weight = np.maximum(self.next_weights(cells, direction), self.least)
        step = self.step[cells][:, None]
        weight = old * (weight / old) ** np.where(step < HELD, 0, step)
        factors, log_det = self.factor(weight)
        shift, mean = self.shift[cells] + length[:, None] * change, self.mean[cells] + direction
        variance = self.spread(factors, weight)
        found = self.terms.expected(cells, mean, variance)
        bound = found.value - _divergence(log_det, weight, variance, shift, mean - prior_mean)
        proposal = (shift, mean, weight, variance, found.slope, found.curvature)
        better = self.accept(cells, proposal, bound, self.prior_log_det - log_det)
        self.factors[cells[better] - self.start] = factors[better]

    def solve(self, factors: Array, less: Array, slope: Array) -> tuple[Array, Array]:
        """Changes of α and m by a step, with a curvature Ω + a that is `less` by what variances do that follow the means."""
        direction, target = np.zeros_like(slope), slope
        for _ in range(ROUNDS):
            target = slope + less * direction
            change = target - _quadratic(factors, target @ self.prior)
            direction = change @ self.prior
        return change, direction

    def mismatch(self, cells: NDArray[np.intp]) -> Array:
        """What the bound gains, about, from weights that are the curvatures, (n,)."""
        weight = self.weight[cells]
        apart = self.variance[cells] * (np.maximum(self.curvature[cells], self.least) - weight)
        return 0.25 * np.einsum("np,np->n", apart, apart)

    def gradient(self, cells: slice, shares: Array | None = None) -> Array:
        r"""−Σ_i K_i: Σ_i V_i = n Σ − Σ (Σ_i K_i) Σ.

        Where a curvature w is negative its weight a is not, so that V is not the best, but moves with Σ to where it is better:
        that adds :math:`\sum_{ij} (a_{ij} - w_{ij}) u_{ij} u_{ij}^T`, with columns u of :math:`\Omega V_i = I - K_i \Sigma`.
        """
        factors = self.factors if shares is None else np.sqrt(shares)[:, None, None] * self.factors
        rows = factors.reshape(-1, factors.shape[2])
        gradient = -(rows.T @ rows)
        negative = self.curvature[cells] < 0
        for cell in np.flatnonzero(negative.any(1)):
            genes, factor = negative[cell], self.factors[cell]
            columns = np.eye(len(self.prior))[:, genes] - factor.T @ (factor @ self.prior[:, genes])
            excess = (self.weight[cells] - self.curvature[cells])[cell, genes]
            excess *= 1 if shares is None else shares[cell]
            gradient += (columns * excess) @ columns.T
        return gradient

    def covariance(self) -> Array:
        """V of all cells, (n, p, p)."""
        factors, _ = self.factor(self.weight)
        reach = factors @ self.prior
        return self.prior - reach.transpose(0, 2, 1) @ reach


def _quadratic(factors: Array, vectors: Array) -> Array:
    """K v of every cell."""
    return np.matmul(factors.transpose(0, 2, 1), np.matmul(factors, vectors[:, :, None]))[:, :, 0]


def _divergence(log_det: Array, weight: Array, variance: Array, shift: Array, residual: Array) -> Array:
    """KL of posteriors from the prior, from log det W, a, diag V, α and m − Bx."""
    trace = np.einsum("np,np->n", weight, variance)
    return 0.5 * (log_det - trace + np.einsum("np,np->n", shift, residual))
