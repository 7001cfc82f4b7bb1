"""Posteriors with independent genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._posteriors import Posteriors
from ._states import REACH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.module.covariances import Covariance

#: Cells × genes of a block: matrix products need many rows, exponentials a cache.
BLOCK_ENTRIES = 512 * 1024
#: Most steps of conjugate gradients for a direction, and the residual at which they end, relative to the first.
CONJUGATE_STEPS, CONJUGATE_RESIDUAL = 20, 0.1
#: What is divided by is no less, in float32.
SMALL = np.float32(1e-30)


class MeanField(Posteriors):
    r"""Posteriors with diagonal V, :math:`v_j = 1 / (\Omega_{jj} + a_j)`.

    .. math:: \sum_j E[\log p(y_j \mid o_j + z_j)] + \tfrac12 \sum_j \log v_j - \tfrac12 \sum_j \Omega_{jj} v_j
        - \tfrac12 \alpha^T (m - Bx) + \tfrac12 \log\det\Omega + \tfrac p2

    Newton's direction in m takes V along at its optimum: its curvature is :math:`\Omega + \text{diag}(w_j / (1 + ½ w_j v_j^2))`, of rates w. It
    is found by conjugate gradients for all cells of a block together, without a factor of any matrix.
    """

    def prepare(self, covariance: Covariance) -> None:
        """Take over Σ and Ω."""
        self.prior, self.precision = covariance.dense, covariance.precision
        self.diagonal, self.prior_log_det = np.diagonal(self.precision), covariance.log_det

    def block_size(self) -> int:
        """Cells whose numbers fit into a block."""
        return int(np.clip(BLOCK_ENTRIES // len(self.prior), 64, 16384))

    def evaluate(
        self, cells: slice | NDArray[np.intp], shift: Array, mean: Array, variance: Array, prior_mean: Array
    ) -> tuple[Array, ...]:
        """Variances, slopes, curvatures, bounds and log det V."""
        found = self.terms.expected(cells, mean, variance)
        log_det = np.log(variance).sum(1)
        trace = variance @ self.diagonal - len(self.prior)
        distance = np.einsum("np,np->n", shift, mean - prior_mean)
        bound = found.value - 0.5 * (trace + distance + self.prior_log_det - log_det)
        return variance, found.slope, found.curvature, bound, log_det

    def anchor(self, cells: slice, prior_mean: Array) -> None:
        """Keep the means, or the shifts, whichever gives a cell the higher bound under the new prior."""
        variance = 1 / (self.diagonal + self.weight[cells])
        mean, shift = self.mean[cells].copy(), self.shift[cells].copy()
        kept_mean = ((mean - prior_mean) @ self.precision, mean)
        kept_shift = (shift, prior_mean + shift @ self.prior)
        options = [(*pair, *self.evaluate(cells, *pair, variance, prior_mean)) for pair in (kept_mean, kept_shift)]
        bounds = np.array([option[5] for option in options])
        second = np.where(np.isfinite(bounds), bounds, -np.inf).argmax(0) == 1
        arrays = (self.shift, self.mean, self.variance, self.slope, self.curvature, self.bound, self.log_det)
        for array, one, other in zip(arrays, *options, strict=True):
            array[cells] = np.where(second if one.ndim == 1 else second[:, None], other, one)

    def place(self, cells: slice, prior_mean: Array, mean: Array, variance: Array) -> None:
        """As they are."""
        shift = (mean - prior_mean) @ self.precision
        self.shift[cells], self.mean[cells], self.weight[cells] = shift, mean, 1 / variance - self.diagonal
        given = self.evaluate(cells, shift, mean, variance, prior_mean)
        arrays = (self.variance, self.slope, self.curvature, self.bound, self.log_det)
        for array, values in zip(arrays, given, strict=True):
            array[cells] = values

    def directions(self, cells: NDArray[np.intp]) -> tuple[Array, Array]:
        """Newton's changes of α and m."""
        curvature, slope = np.maximum(self.curvature[cells], 0), self.slope[cells] - self.shift[cells]
        direction, change = self.solve(curvature / (1 + self.halves(cells, curvature)), slope)
        apart = self.variance[cells] * (curvature - self.weight[cells])
        self.gain[cells] = 0.5 * np.einsum("np,np->n", slope, direction) + 0.25 * np.einsum("np,np->n", apart, apart)
        return change, direction

    def advance(self, cells: NDArray[np.intp], prior_mean: Array, change: Array, direction: Array) -> None:
        """Move m, and V with it."""
        length = self.step[cells] * np.minimum(1, REACH / np.maximum(np.abs(direction).max(1), 1e-300))
        shift = self.shift[cells] + length[:, None] * change
        direction *= length[:, None]
        weight, mean = self.next_weights(cells, direction), self.mean[cells] + direction
        given = self.evaluate(cells, shift, mean, 1 / (self.diagonal + weight), prior_mean)
        variance, slope, curvature, bound, log_det = given
        self.accept(cells, (shift, mean, weight, variance, slope, curvature), bound, log_det)

    @np.errstate(over="ignore", invalid="ignore")  # of rates at the cut: such a point is rejected
    def solve(self, weight: Array, slope: Array) -> tuple[Array, Array]:
        """Directions δ, (Ω + diag w) δ = slope of every cell, and Ω δ.

        Conjugate gradients, in float32, find a direction; that Ω δ belongs to it is exact.
        """
        precision, weight = self.precision.astype(np.float32), weight.astype(np.float32)
        scale = 1 / (self.diagonal.astype(np.float32) + weight)
        residual = slope.astype(np.float32)
        direction, conjugate = np.zeros_like(residual), scale * residual
        size = np.einsum("np,np->n", residual, conjugate)
        target = CONJUGATE_RESIDUAL**2 * size.sum()
        for _ in range(CONJUGATE_STEPS):
            product = conjugate @ precision
            product += weight * conjugate
            length = (size / np.maximum(np.einsum("np,np->n", conjugate, product), SMALL))[:, None]
            direction += length * conjugate
            product *= length
            residual -= product
            scaled = scale * residual
            old, size = size, np.einsum("np,np->n", residual, scaled)
            if size.sum() <= target:
                break
            conjugate *= (size / np.maximum(old, SMALL))[:, None]
            conjugate += scaled
        exact = direction.astype(np.float64)
        return exact, exact @ self.precision

    def gradient(self, cells: slice, shares: Array | None = None) -> Array:
        """Ω (Σ_i V_i − n Σ) Ω, and what is added where curvatures are negative, but not weights: Ω diag(Σ_i (a − w) v²) Ω."""
        counted = np.ones(cells.stop - cells.start) if shares is None else shares
        diagonal = counted @ self.variance[cells]
        if (self.curvature[cells] < 0).any():
            excess = np.where(self.curvature[cells] < 0, self.weight[cells] - self.curvature[cells], 0)
            diagonal += counted @ (excess * self.variance[cells] ** 2)
        return (self.precision * diagonal) @ self.precision - counted.sum() * self.precision

    def covariance(self) -> Array:
        """V of all cells, (n, p, p)."""
        return np.apply_along_axis(np.diag, 1, self.variance)
