"""Gaussian posteriors of the coordinates of a tree, and their optimum for given parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._factors import inverse_factors
from scpln.inference.genespace._fullrank import BLOCK_ENTRIES, HELD, LEAST_WEIGHT, ROUNDS
from scpln.inference.genespace._posteriors import Posteriors
from scpln.inference.genespace._states import REACH

from ._blocks import BlockLayout
from ._terms import Found, TreeTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, TreeContrasts
    from scpln.inference.genespace._observations import Observations
    from scpln.module.covariances import Covariance

#: What the prior counts for where a search starts from observed shares.
PSEUDO_COUNT = 0.5


class TreePosteriors(Posteriors):
    r"""Posteriors with :math:`V = (\Omega + \Lambda)^{-1}` and a block-diagonal Λ, the form that the best covariance has.

    Every node has a weight w: at the optimum its rate, of the first level, or its parent's count times its share p. Blocks of Λ are the weights of the first
    level, and :math:`H^T (\text{diag}(w) - w w^T / \sum w) H` of siblings. As in `FullRank` of
    single log-rates, all is computed from :math:`W = I + L^T \Sigma L` with :math:`\Lambda = L L^T`, and never from Ω:

    .. math:: K = L W^{-1} L^T, \quad V = \Sigma - \Sigma K \Sigma, \quad V_{gg} = L_g^{-T} (I - W^{-1}_{gg}) L_g^{-1}, \quad
        p - \text{tr}(\Omega V) = p - \text{tr}(W^{-1}).
    """

    terms: TreeTerms

    def __init__(self, observations: Observations, contrasts: TreeContrasts) -> None:
        self.layout = BlockLayout(contrasts)
        super().__init__(observations, TreeTerms(observations, contrasts, self.layout))
        shape = self.terms.nodes.shape
        self.weight, self.curvature, self.variance = np.zeros(shape), np.zeros(shape), np.zeros(shape)  # of nodes
        self.blocks = np.zeros((len(self.mean), self.layout.size))  # of V, packed

    @property
    def state(self) -> tuple[Array, ...]:
        """What a posterior is, in the order of proposals."""
        return self.shift, self.mean, self.weight, self.blocks, self.variance, self.slope, self.curvature

    def guess(self, cells: slice | NDArray[np.intp], prior_mean: Array) -> None:
        """Log-rates and log-ratios of the counts, to which the prior adds half a count for each child."""
        contrasts, seen = self.terms.contrasts, self.observations
        counts, shares = self.terms.nodes[cells], contrasts.log_shares(prior_mean)
        z, top = np.zeros_like(shares), contrasts.top - 1
        z[:, top] = np.log(counts[:, top] + PSEUDO_COUNT * np.exp(np.minimum(shares[:, top], 0))) - seen.offsets[cells]
        above = counts[:, top] > seen.rates(cells, seen.offsets[cells] + prior_mean[:, : len(top)])
        z[:, top] = np.where(above, z[:, top], prior_mean[:, : len(top)])
        for group in contrasts.siblings:
            own = group.nodes - 1
            z[:, own] = np.log(counts[:, own] + PSEUDO_COUNT * own.shape[1] * np.exp(shares[:, own]))
        self.mean[cells] = z @ contrasts.matrix
        found = self.terms.moments(cells, self.mean[cells], self.blocks[cells])
        self.slope[cells] = found.slope
        self.curvature[cells] = self.weight[cells] = found.weight

    def prepare(self, covariance: Covariance) -> None:
        """Take over Σ."""
        self.prior, self.prior_log_det = covariance.dense, covariance.log_det
        self.least = LEAST_WEIGHT / np.diagonal(self.prior)

    def block_size(self) -> int:
        """Samples whose matrices W fit into a block."""
        return int(np.clip(BLOCK_ENTRIES // self.prior.size, 8, 1024))

    def factor(self, weight: Array) -> tuple[Array, Array, Array, Array]:
        """F with K = FᵀF, the blocks of V, log det W, and tr ΛV."""
        roots = self.layout.cholesky(self.layout.of_weights(weight, self.least))
        half = self.layout.columns(self.prior, roots)
        matrices = self.layout.columns(half.transpose(0, 2, 1), roots)
        diagonal = np.arange(len(self.prior))
        matrices[:, diagonal, diagonal] += 1
        factors, log_det = inverse_factors(matrices)
        rest = self.layout.lacking(factors)
        trace = self.layout.diagonal(rest).sum(1)
        blocks = self.layout.between(self.layout.inverse_lower(roots), rest)
        return self.layout.columns(factors, self.layout.transpose(roots)), blocks, log_det, trace

    def spread(self, factors: Array, vectors: Array) -> Array:
        """V times vectors (n, p)."""
        moved = vectors @ self.prior
        inner = np.einsum("nkj,nj->nk", factors, moved)
        return moved - np.einsum("nkj,nk->nj", factors, inner) @ self.prior

    def anchor(self, cells: slice, prior_mean: Array) -> None:
        """Newton's step from the posteriors' means as they are, under the new prior."""
        weight = self.weight[cells]
        factored = self.factor(weight)
        self.start, self.factors = cells.start, factored[0]
        response = self._weigh(weight, self.mean[cells] - prior_mean) + self.slope[cells]
        change = self.spread(self.factors, response)
        shift = response - self._weigh(weight, change)
        self.set(cells, shift, prior_mean + change, prior_mean, weight, factored)

    def place(self, cells: slice, prior_mean: Array, mean: Array, variance: Array) -> None:
        """At given means and packed blocks of covariances, with the curvatures as weights; Σ has to be well conditioned."""
        weight = self.terms.moments(cells, mean, variance).weight
        shift = np.linalg.solve(self.prior, (mean - prior_mean).T).T
        self.set(cells, shift, mean, prior_mean, weight, self.factor(weight))

    def set(
        self,
        cells: slice,
        shift: Array,
        mean: Array,
        prior_mean: Array,
        weight: Array,
        factored: tuple[Array, Array, Array, Array],
    ) -> None:
        """Take over posteriors of a block."""
        proposal, bound, log_det = self._proposal(cells, shift, mean, prior_mean, weight, factored)
        for array, values in zip(self.state, proposal, strict=True):
            array[cells] = values
        self.bound[cells], self.log_det[cells] = bound, log_det

    def directions(self, cells: NDArray[np.intp]) -> tuple[Array, Array]:
        """Newton's changes of α and m."""
        slope = self.slope[cells] - self.shift[cells]
        change, direction = self.solve(cells, slope)
        self.gain[cells] = 0.5 * np.einsum("np,np->n", slope, direction) + self.mismatch(cells)
        return change, direction

    def solve(self, cells: NDArray[np.intp], slope: Array) -> tuple[Array, Array]:
        """Changes of α and m by a step, with a curvature that is less by what variances do that follow the means."""
        halves = self.halves(cells, self.weight[cells])
        less, target = self.weight[cells] * halves / (1 + halves), slope
        precision = self.layout.of_weights(self.weight[cells], self.least)
        for round_ in range(ROUNDS):
            direction = self.spread(self.factors[cells - self.start], target)
            change = target - self.layout.times(direction, precision)
            if round_ < ROUNDS - 1:
                moved = self.terms.log_weights(direction, self.curvature[cells])
                target = slope + (less * moved) @ self.terms.contrasts.matrix
        return change, direction

    def mismatch(self, cells: NDArray[np.intp]) -> Array:
        """What the bound gains, about, from weights that are the curvatures, (n,)."""
        apart = self.variance[cells] * (self.curvature[cells] - self.weight[cells])
        return 0.25 * np.einsum("np,np->n", apart, apart)

    def advance(self, cells: NDArray[np.intp], prior_mean: Array, change: Array, direction: Array) -> None:
        """Move m, and V with it."""
        length = self.step[cells] * np.minimum(1, REACH / np.maximum(np.abs(direction).max(1), 1e-300))
        shift = self.shift[cells] + length[:, None] * change
        mean = self.mean[cells] + length[:, None] * direction
        step, old = self.step[cells][:, None], self.weight[cells]
        following = self.next_weights(cells, self.terms.log_weights(length[:, None] * direction, self.curvature[cells]))
        ratio = np.divide(following, old, where=old > 0, out=np.ones_like(old))
        weight = np.where(old > 0, old * ratio ** np.where(step < HELD, 0, step), following)
        factored = self.factor(weight)
        better = self.accept(cells, *self._proposal(cells, shift, mean, prior_mean, weight, factored))
        self.factors[cells[better] - self.start] = factored[0][better]

    def _proposal(
        self,
        cells: slice | NDArray[np.intp],
        shift: Array,
        mean: Array,
        prior_mean: Array,
        weight: Array,
        factored: tuple[Array, Array, Array, Array],
    ) -> tuple[tuple[Array, ...], Array, Array]:
        """A state, its bound, and log det V."""
        _, blocks, log_det, trace = factored
        found: Found = self.terms.moments(cells, mean, blocks)
        residual = np.einsum("np,np->n", shift, mean - prior_mean)
        bound = found.value - 0.5 * (log_det - trace + residual)
        state = shift, mean, weight, blocks, found.variance, found.slope, found.weight
        return state, bound, self.prior_log_det - log_det

    def _weigh(self, weight: Array, vectors: Array) -> Array:
        """Λ times vectors."""
        return self.layout.times(vectors, self.layout.of_weights(weight, self.least))

    def gradient(self, cells: slice, shares: Array | None = None) -> Array:
        """−Σ_i K_i: Σ_i V_i = n Σ − Σ (Σ_i K_i) Σ."""
        factors = self.factors if shares is None else np.sqrt(shares)[:, None, None] * self.factors
        rows = factors.reshape(-1, factors.shape[2])
        return -(rows.T @ rows)

    def covariance(self) -> Array:
        """V of all samples, (n, p, p)."""
        n, size = len(self.mean), self.block_size()
        result = np.empty((n, *self.prior.shape))
        for start in range(0, n, size):
            factors = self.factor(self.weight[start : start + size])[0]
            half = factors @ self.prior
            result[start : start + size] = self.prior - half.transpose(0, 2, 1) @ half
        return result
