"""Parameter expansion: the exact change of coordinates that removes the slow directions of the alternation.

Log-rates do not change when the latent state z_i is replaced by T z_i + Rᵀ x_i and loadings and coefficients
absorb it: C T⁻¹ and B − C T⁻¹ Rᵀ. Only the divergence to the prior changes, and it is smallest when posterior means are
orthogonal to the design and the average posterior second moment (1/n) Σ_i (m_i m_iᵀ + V_i) is the identity [1]_.

.. [1] Liu, Rubin and Wu (1998), Parameter expansion to accelerate EM: the PX-EM algorithm. Biometrika 85, 755-770.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg

from ._genes import GeneParameters

if TYPE_CHECKING:
    from scpln.core import Array

    from ._families import GaussianFamily
    from ._states import CellStates
    from .prior import GenePrior


@dataclass(frozen=True)
class Expansion:
    """The change of coordinates z → T⁻¹ (z − Rᵀ x), C → C T, B → B + C Rᵀ."""

    scale: Array  # T, symmetric (q, q)
    shift: Array  # R, (d, q)

    @classmethod
    def at(
        cls, states: CellStates, design: Array, family: GaussianFamily, genes: GeneParameters, prior: GenePrior
    ) -> Expansion:
        """The best change of coordinates for the given posteriors, under the prior of the genes' parameters."""
        mean = states.mean.astype(np.float64)
        shift = _best_shift(mean, design, genes, prior)
        mean -= design @ shift
        moment = mean.T @ mean / len(mean) + family.mean_covariance(states.variance)
        return cls(family.rescaling(moment), shift)

    def move_cells(self, states: CellStates, design: Array, family: GaussianFamily) -> None:
        """Express posteriors in the new coordinates, in place."""
        inverse = np.linalg.inv(self.scale)
        states.mean -= (design @ self.shift).astype(states.dtype)
        states.mean[...] = states.mean @ inverse.T.astype(states.dtype)
        states.variance[...] = family.transform(states.variance, inverse)
        states.log_det -= 2 * np.linalg.slogdet(self.scale)[1]

    def move_genes(self, parameters: GeneParameters) -> GeneParameters:
        """Coefficients and loadings in the new coordinates."""
        coefficients = parameters.coefficients + parameters.loadings @ self.shift.T
        spread = parameters.spread
        if spread is not None:
            spread = spread @ linalg.congruence(self.scale.T)
        return GeneParameters(coefficients, parameters.loadings @ self.scale, spread)

    def move_prior(self, prior: GenePrior) -> GenePrior:
        """The prior of the loadings in the new coordinates."""
        return prior.moved(self.scale) if prior.learned else prior

    def move_count_mean(self, count_mean: Array, count_design: Array) -> Array:
        """Σ_i y_ij m_i in the new coordinates."""
        return (count_mean - count_design @ self.shift) @ np.linalg.inv(self.scale).T


def _best_shift(mean: Array, design: Array, genes: GeneParameters, prior: GenePrior) -> Array:
    """R (d, q) that latent states z → z − Rᵀ x and coefficients B → B + C Rᵀ like best, by their priors."""
    if not prior.weight.any():
        shift: Array = np.linalg.lstsq(design, mean, rcond=None)[0]
        return shift
    c, weight = genes.loadings, prior.weight[prior.codes]
    d, q = design.shape[1], c.shape[1]
    system = np.einsum("ab,kl->akbl", design.T @ design, np.eye(q))
    for a in range(d):
        system[a, :, a] += (c.T * weight[:, a]) @ c
    target = design.T @ mean - (weight * (genes.coefficients - prior.center[prior.codes])).T @ c
    solution: Array = np.linalg.lstsq(system.reshape(d * q, d * q), target.ravel(), rcond=None)[0]
    return solution.reshape(d, q)
