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

from ._genes import GeneParameters

if TYPE_CHECKING:
    from scpln.core import Array

    from ._families import GaussianFamily
    from ._states import CellStates


@dataclass(frozen=True)
class Expansion:
    """The change of coordinates z → T⁻¹ (z − Rᵀ x), C → C T, B → B + C Rᵀ."""

    scale: Array  # T, symmetric (q, q)
    shift: Array  # R, (d, q)

    @classmethod
    def at(cls, states: CellStates, design: Array, family: GaussianFamily) -> Expansion:
        """The best change of coordinates for the given posteriors."""
        mean = states.mean.astype(np.float64)
        shift = np.linalg.lstsq(design, mean, rcond=None)[0]
        mean -= design @ shift
        moment = mean.T @ mean / len(mean) + family.mean_covariance(states.variance)
        return cls(family.rescaling(moment), shift)

    def move_cells(self, states: CellStates, design: Array, family: GaussianFamily) -> None:
        """Express posteriors in the new coordinates, in place."""
        inverse = np.linalg.inv(self.scale)
        states.mean -= (design @ self.shift).astype(states.dtype)
        states.mean[...] = states.mean @ inverse.astype(states.dtype)
        states.variance[...] = family.transform(states.variance, inverse)
        states.log_det -= 2 * np.linalg.slogdet(self.scale)[1]

    def move_genes(self, parameters: GeneParameters) -> GeneParameters:
        """Coefficients and loadings in the new coordinates."""
        coefficients = parameters.coefficients + parameters.loadings @ self.shift.T
        return GeneParameters(coefficients, parameters.loadings @ self.scale)

    def move_count_mean(self, count_mean: Array, count_design: Array) -> Array:
        """Σ_i y_ij m_i in the new coordinates."""
        return (count_mean - count_design @ self.shift) @ np.linalg.inv(self.scale)
