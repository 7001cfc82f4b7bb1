"""Scores and curvature of the bounds of cells at their best posteriors, by coefficients and the covariance between genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from scpln.core import ranges
from scpln.inference.genespace._factors import inverse_factors

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, Threads

    from ._directions import Directions

Part = TypeVar("Part")
#: Numbers in the arrays of a block of cells.
BLOCK_ENTRIES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Response:
    r"""How the posteriors of a block of cells respond to parameters; see `ProfiledCells`.

    Parameters
    ----------
    curvature
        κ, (n, p, p).
    reduced
        K, (n, p, p): minus the derivative of the bound by Σ is ½ (K − α αᵀ).
    remainder
        N, (n, p, p): how far a posterior's covariance follows the prior's, :math:`dV = N\, d\Sigma\, N^T + \dots`
    """

    curvature: Array
    reduced: Array
    remainder: Array


@dataclass(frozen=True)
class ProfiledCells:
    r"""Cells whose bounds :math:`J_i(B, \Sigma) = \max_{m, V}` are functions of the parameters alone.

    With weights a, the expected rates of Poisson counts, and slopes :math:`\alpha = y - a` at the optimum, the derivative of a
    cell's bound by Bx is α, and that by Σ is :math:`\frac12 (\alpha\alpha^T - K)` with :math:`K = (\Sigma + \text{diag}(1/a))^{-1}`. Both
    m and V respond when parameters move: in a direction that changes Bx by δ and Σ by E, α changes by

    .. math:: d\alpha = -\kappa \rho, \quad \rho = \delta + E \alpha + \tfrac12 \text{diag}(N E N^T), \quad
        \kappa = (\text{diag}(1/a) + \Sigma + \tfrac12 V \circ V)^{-1}, \quad N = I - \Sigma K

    with the entrywise square of :math:`V = \Sigma - \Sigma K \Sigma`, and the second derivative of the bound along two directions is

    .. math:: -\rho_1^T \kappa \rho_2 + \tfrac12 \text{tr}(E_1 K E_2 K).

    Nothing divides by a or by Σ, so that entries that were not observed have weight 0, and Σ may be singular, as that of PLN-PCA is.
    Mean-field posteriors have :math:`V = 1 / (\Omega_{jj} + a_j)`, :math:`N = V \Omega` and :math:`K = \Omega - \Omega V \Omega`.

    Parameters
    ----------
    slope, weight
        α and a, (n, p).
    design
        X, (n, d).
    covariance
        Σ, (p, p).
    directions
        Parameters of Σ.
    precision
        Ω of mean-field posteriors; None for full rank.
    poisson
        Whether weights are the rates, and follow the posteriors; of other likelihoods they are taken as they are.
    """

    slope: Array
    weight: Array
    design: Array
    covariance: Array
    directions: Directions
    precision: Array | None = None
    poisson: bool = True

    @property
    def n_coefficients(self) -> int:
        """Coefficients gene by gene, p d in number; further parameters come after them."""
        return int(self.slope.shape[1] * self.design.shape[1])

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return self.n_coefficients + self.directions.size

    def scores(self, pool: Threads) -> Array:
        """Derivatives of the bounds by all parameters, (n, P)."""
        result = np.empty((len(self.slope), self.size))

        def of_block(cells: slice) -> None:
            slope, parts = self.slope[cells], self.n_coefficients
            result[cells, :parts] = (slope[:, :, None] * self.design[cells, None]).reshape(len(slope), -1)
            if self.directions.size:
                result[cells, parts:] = self.directions.score(slope, self.response(cells).reduced)

        self._over_blocks(of_block, pool)
        return result

    def curvature(self, pool: Threads) -> Array:
        """Minus the second derivative of the sum of bounds, (P, P)."""
        blocks = self._over_blocks(self._curvature_of, pool)
        total: Array = np.sum([block for block, _ in blocks], 0)
        parts = self.n_coefficients
        gradient = self.slope.T @ self.slope - np.sum([reduced for _, reduced in blocks], 0)
        total[parts:, parts:] -= self.directions.bend(gradient)
        return 0.5 * (total + total.T)

    def response(self, cells: slice) -> Response:
        """Of a block of cells."""
        return self._full_rank(cells) if self.precision is None else self._mean_field(cells, self.precision)

    def _full_rank(self, cells: slice) -> Response:
        weight = self.weight[cells]
        reduced = self._weighted_inverse(weight, self.covariance[None])
        explained = self.covariance @ reduced
        variance = self.covariance - explained @ self.covariance
        remainder = np.eye(weight.shape[1]) - explained
        if not self.poisson:
            return Response(reduced, reduced, remainder)
        curvature = self._weighted_inverse(weight, self.covariance + 0.5 * variance**2)
        return Response(curvature, reduced, remainder)

    def _mean_field(self, cells: slice, precision: Array) -> Response:
        weight = self.weight[cells]
        variance = 1 / (np.diagonal(precision) + weight)
        remainder = variance[:, :, None] * precision
        reduced = precision - precision @ remainder
        matrices = np.repeat(self.covariance[None], len(weight), 0)
        genes = np.arange(weight.shape[1])
        matrices[:, genes, genes] += 0.5 * variance**2
        return Response(self._weighted_inverse(weight, matrices), reduced, remainder)

    @staticmethod
    def _weighted_inverse(weight: Array, matrices: Array) -> Array:
        """(diag(1/a) + M)⁻¹ of semidefinite matrices M."""
        root = np.sqrt(weight)
        inner = root[:, :, None] * matrices * root[:, None]
        genes = np.arange(weight.shape[1])
        inner[:, genes, genes] += 1
        factors = inverse_factors(inner)[0]
        factors *= root[:, None]
        return factors.transpose(0, 2, 1) @ factors

    def _curvature_of(self, cells: slice) -> tuple[Array, Array]:
        """Minus the second derivative of a block's bounds, where Σ moves on a line, and its sum of K."""
        design, slope, response = self.design[cells], self.slope[cells], self.response(cells)
        (n, p), d, parts = slope.shape, design.shape[1], self.n_coefficients
        products = (design[:, :, None] * design[:, None]).reshape(n, -1)
        total = np.zeros((self.size, self.size))
        by_coefficients = (products.T @ response.curvature.reshape(n, -1)).reshape(d, d, p, p)
        total[:parts, :parts] = by_coefficients.transpose(2, 0, 3, 1).reshape(parts, parts)
        if self.directions.size:
            spread = self.directions.spread(response.remainder) if self.poisson else None
            moved = self.directions.applied(slope)
            if spread is not None:
                moved += 0.5 * spread
            reply = response.curvature @ moved
            mixed = (design.T @ reply.reshape(n, -1)).reshape(d, p, -1)
            total[:parts, parts:] = mixed.transpose(1, 0, 2).reshape(parts, -1)
            total[parts:, :parts] = total[:parts, parts:].T
            flat = moved.reshape(n * p, -1)
            total[parts:, parts:] = flat.T @ reply.reshape(n * p, -1) - self._inner(cells, response, spread)
        return total, response.reduced.sum(0)

    def _inner(self, cells: slice, response: Response, spread: Array | None) -> Array:
        """½ Σ_i tr(E K E K), or what it is for mean-field posteriors."""
        if self.precision is None:
            return 0.5 * self.directions.traces(response.reduced, response.reduced)
        prior = np.repeat(self.precision[None], len(response.reduced), 0)
        mixed = self.directions.traces(prior, prior - response.reduced)
        total = 0.5 * self.directions.traces(prior, prior) - 0.5 * (mixed + mixed.T)
        if spread is not None:
            precise = np.diagonal(self.precision) + self.weight[cells]
            scaled = (spread * precise[:, :, None]).reshape(-1, spread.shape[2])
            total += 0.5 * scaled.T @ scaled
        return total

    def _over_blocks(self, function: Callable[[slice], Part], pool: Threads) -> list[Part]:
        """What a function gives for each block of cells."""
        n, p = self.slope.shape
        size = int(np.clip(BLOCK_ENTRIES // (p * max(p, self.directions.size)), 1, 256))

        def process_chunk(start: int, stop: int) -> list[Part]:
            return [function(slice(first, last)) for first, last in ranges(start, stop, size)]

        return [part for chunk in pool.map_chunks(process_chunk, n, size) for part in chunk]
