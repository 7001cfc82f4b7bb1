"""The genes' half of the alternation: parameters, and the quadratic model that a damped Newton step maximises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from scpln.core import Array
    from scpln.inference.newton.poisson import GeneStatistics

    from ._families import GaussianFamily
    from .prior import GenePrior


#: Largest root-mean-square change of a gene's log-rates (weighted by its rates) in one step.
TRUST_RADIUS = 1.0
#: Largest change of a loading in one step.
MAX_LOADING_CHANGE = 1.0


@dataclass
class GeneParameters:
    """Coefficients B (p, d) and loadings C (p, q), which may be uncertain.

    Posteriors of the loadings are N(C_j, S_j), with S packed as lower triangles (p, q(q+1)/2); known if it is None.
    """

    coefficients: Array
    loadings: Array
    spread: Array | None = None

    @property
    def stacked(self) -> Array:
        """B and C side by side, (p, d + q)."""
        return np.hstack([self.coefficients, self.loadings])

    @classmethod
    def unstacked(cls, stacked: Array, n_covariates: int, spread: Array | None = None) -> GeneParameters:
        """Inverse of `stacked`."""
        return cls(stacked[:, :n_covariates].copy(), stacked[:, n_covariates:].copy(), spread)

    def known(self, inflation: Array | float) -> GeneParameters:
        """The same with loadings that are known, and intercepts that make up for how much their spread raised log-rates."""
        coefficients = self.coefficients.copy()
        coefficients[:, 0] += inflation
        return GeneParameters(coefficients, self.loadings)

    def rotated(self, axes: Array) -> GeneParameters:
        """The same with the latent space rotated, z → z W."""
        spread = self.spread if self.spread is None else self.spread @ linalg.congruence(axes.T)
        return GeneParameters(self.coefficients, self.loadings @ axes, spread)

    def bound(self, count_design: Array, statistics: GeneStatistics) -> Array:
        """Each gene's part of the bound, Σ_i y_ij (x_i·B_j + m_i·C_j) − A_ij, (p,), for statistics taken at these parameters."""
        return self.linear(count_design, statistics.count_mean) - statistics.total

    def linear(self, count_design: Array, count_mean: Array) -> Array:
        """Σ_i y_ij (x_i·B_j + m_i·C_j) of every gene, (p,)."""
        return (self.coefficients * count_design).sum(1) + (self.loadings * count_mean).sum(1)


@dataclass(frozen=True)
class GeneModel:
    """Quadratic model of every gene's part of the bound: gradient (p, k) and curvature (k, k, p), k = d + q."""

    gradient: Array
    curvature: Array
    total: Array
    n_covariates: int
    prior: GenePrior | None = None  # whose part gradient and curvature have

    @classmethod
    def of(
        cls,
        parameters: GeneParameters,
        count_design: Array,
        statistics: GeneStatistics,
        family: GaussianFamily,
    ) -> GeneModel:
        """Gradient and curvature at the parameters where `statistics` were taken.

        With u_ij = m_i + V_i C_j the gradient is Σ_i (y_ij − A_ij) x_i and Σ_i y_ij m_i − A_ij u_ij, exactly. The
        curvature is Σ_i A_ij [(x_i, u_ij)(x_i, u_ij)ᵀ + diag(0, V_i)] with V_i C_j in u_ij replaced by its average
        under the weights A_ij, which makes it a linear function of sums that do not depend on C_j.
        """
        d, q, p = parameters.coefficients.shape[1], family.n_latent, len(parameters.loadings)
        total = np.maximum(statistics.total, 1e-30)
        spread = family.times_loadings(statistics["variance"], parameters.loadings)  # Σ A V C
        gradient = np.hstack(
            [count_design - statistics["design"], statistics.count_mean - statistics["mean"] - spread],
        )
        shift = (spread / total[:, None]).T  # average of V C, (q, p)
        mean, design = statistics["mean"].T, statistics["design"].T
        curvature = np.zeros((d + q, d + q, p))
        rows, columns = statistics.design_products
        curvature[rows, columns] = curvature[columns, rows] = statistics["design_outer"].T
        curvature[:d, d:] = statistics["cross"].T.reshape(d, q, p) + design[:, None] * shift
        curvature[d:, :d] = curvature[:d, d:].transpose(1, 0, 2)
        within = linalg.unpack(statistics["mean_outer"], q) + family.full(statistics["variance"])
        within += mean[:, None] * shift + shift[:, None] * mean + (total * shift)[:, None] * shift
        curvature[d:, d:] = within
        return cls(gradient, curvature, total, d)

    def step(self, damping: Array) -> tuple[Array, float]:
        """Damped Newton step (p, d + q), cut to the trust radius, and the predicted gain of the uncut step, nats.

        The Hessian's diagonal is multiplied by 1 + `damping`, (p,). The gain is ½ Σ_j g_jᵀ H_j⁻¹ g_j, the squared gradient in
        the preconditioned metric.
        """
        inverse = self.curvature.copy()
        diagonal = np.einsum("aap->ap", inverse)
        diagonal *= 1 + 1e-6 + damping
        diagonal += 1e-6
        linalg.invert(inverse)
        step = linalg.multiply(inverse, self.gradient)
        gain = 0.5 * float((step * self.gradient).sum())
        change = np.sqrt(self.squared_change(step))
        loading_change = np.abs(step[:, self.n_covariates :]).max(1, initial=0.0)
        reach = np.minimum(
            TRUST_RADIUS / np.maximum(change, 1e-12), MAX_LOADING_CHANGE / np.maximum(loading_change, 1e-12)
        )
        step *= np.minimum(1, reach)[:, None]
        step[~np.isfinite(step).all(1)] = 0
        return step, gain

    def weigh(self, changes: Array) -> Array:
        """Curvature times changes (k, p, d + q) of all genes."""
        return np.einsum("abp,kpb->kpa", self.curvature, changes, optimize=True)

    def squared_change(self, step: Array) -> Array:
        """Mean squared change of each gene's log-rates, weighted by its rates, that a step (p, d + q) makes, (p,)."""
        squares = (self.weigh(step[None])[0] * step).sum(1)
        if self.prior is not None:
            squares -= self.prior.squares(step)
        return np.maximum(squares, 0) / self.total
