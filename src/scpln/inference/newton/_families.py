"""Families of Gaussian posteriors, as the closed-form Poisson bound needs them.

The bound touches the covariance V of a cell's latent state through two functions only: the log-rate's variance
C_jᵀ V C_j of every gene, which is linear in V, and the divergence to the prior. A family says which numbers of V
are free (its *packed* form), and how they enter these two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from scpln.core import Array

GaussianFamilyName = Literal["fullrank", "meanfield"]


class GaussianFamily(ABC):
    """Gaussian posteriors N(m, V) of q latent dimensions whose V has `size` free numbers."""

    size: int

    def __init__(self, n_latent: int) -> None:
        self.n_latent = n_latent

    @abstractmethod
    def isotropic(self, n: int, variance: float) -> Array:
        """Packed V = `variance` · I for n cells."""

    @abstractmethod
    def features(self, matrices: Array) -> Array:
        """Features (p, size) whose product with the packed V is ½ tr(M_j V), of packed symmetric `matrices` (p, q(q+1)/2)."""

    @abstractmethod
    def trace(self, packed: Array) -> Array:
        """Trace of V, (n,)."""

    @abstractmethod
    def update(
        self, precision: Array, covariance: Array, log_det: Array, packed: Array, step: Array
    ) -> tuple[Array, Array]:
        """Move V to V + t (H⁻¹ − V) for a `step` t in (0, 1] per cell; return it packed, and its log-determinant.

        H⁻¹ is the optimum for the given rates. `precision` is H = I + Cᵀ diag(A) C, (q, q, n), `covariance` its inverse and
        `log_det` that of H. The bound is concave in V, so that the way there leads upwards; and a V that became far too
        small grows at once, while averaging precisions instead would let it grow by a constant factor per step.
        """

    @abstractmethod
    def covariance(self, packed: Array) -> Array:
        """Packed lower triangle (n, q(q+1)/2) of V."""

    @abstractmethod
    def pack(self, covariance: Array) -> Array:
        """Packed form of the V nearest to full covariances given as packed lower triangles."""

    @abstractmethod
    def mean_covariance(self, packed: Array) -> Array:
        """Average of V over cells, (q, q)."""

    @abstractmethod
    def times_loadings(self, weights: Array, loadings: Array) -> Array:
        """Σ_i a_ij V_i C_j, (p, q), from the packed `weights` Σ_i a_ij V_i (p, size)."""

    @abstractmethod
    def full(self, weights: Array) -> Array:
        """Matrices (q, q, p) of packed `weights` (p, size)."""

    @abstractmethod
    def rescaling(self, second_moment: Array) -> Array:
        """Symmetric T that makes the average posterior second moment the identity: T² = `second_moment`.

        A family that is not closed under rotation scales its axes only.
        """

    @abstractmethod
    def principal_axes(self, second_moment: Array) -> tuple[Array, Array]:
        """Variances (q,) along axes W (q, q) that the family can have: principal ones, or its own."""

    @abstractmethod
    def transform(self, packed: Array, matrix: Array) -> Array:
        """Packed T V Tᵀ, for a `matrix` T under which the family is closed."""

    @abstractmethod
    def rotate(self, packed: Array, axes: Array) -> tuple[Array, Array]:
        """Packed Wᵀ V W for a rotation W (`axes`), as nearly as the family can have it, and its log-determinant."""


class FullRank(GaussianFamily):
    """Any covariance: V packed as its lower triangle."""

    def __init__(self, n_latent: int) -> None:
        super().__init__(n_latent)
        self._rows, self._columns = linalg.tril_indices(n_latent)
        self._diagonal = np.flatnonzero(self._rows == self._columns)
        self.size = len(self._rows)

    def isotropic(self, n: int, variance: float) -> Array:
        packed = np.zeros((n, self.size))
        packed[:, self._diagonal] = variance
        return packed

    def features(self, matrices: Array) -> Array:
        return matrices * np.where(self._rows == self._columns, 0.5, 1.0)

    def trace(self, packed: Array) -> Array:
        return packed[:, self._diagonal].sum(1)

    def update(
        self, precision: Array, covariance: Array, log_det: Array, packed: Array, step: Array
    ) -> tuple[Array, Array]:
        new, new_log_det = linalg.pack(covariance), -log_det
        damped = np.flatnonzero(step < 1)
        if len(damped):
            new[damped] = packed[damped] + step[damped, None] * (new[damped] - packed[damped])
            new_log_det[damped] = linalg.invert(linalg.unpack(new[damped], self.n_latent))
        return new, new_log_det

    def covariance(self, packed: Array) -> Array:
        return packed

    def pack(self, covariance: Array) -> Array:
        return covariance

    def mean_covariance(self, packed: Array) -> Array:
        return linalg.unpack(packed.mean(0, dtype=np.float64)[None], self.n_latent)[:, :, 0]

    def times_loadings(self, weights: Array, loadings: Array) -> Array:
        return linalg.multiply(self.full(weights), loadings)

    def full(self, weights: Array) -> Array:
        return linalg.unpack(weights, self.n_latent)

    def rescaling(self, second_moment: Array) -> Array:
        values, vectors = np.linalg.eigh(second_moment)
        return (vectors * np.sqrt(values)) @ vectors.T

    def principal_axes(self, second_moment: Array) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(second_moment)
        return values, vectors

    def transform(self, packed: Array, matrix: Array) -> Array:
        return packed @ linalg.congruence(matrix).astype(packed.dtype)

    def rotate(self, packed: Array, axes: Array) -> tuple[Array, Array]:
        rotated = self.transform(packed, axes.T)
        return rotated, linalg.invert(linalg.unpack(rotated, self.n_latent))


class MeanField(GaussianFamily):
    """Independent latent dimensions: V packed as its diagonal, s²."""

    def __init__(self, n_latent: int) -> None:
        super().__init__(n_latent)
        self.size = n_latent
        rows, columns = linalg.tril_indices(n_latent)
        self._diagonal = np.flatnonzero(rows == columns)

    def isotropic(self, n: int, variance: float) -> Array:
        return np.full((n, self.size), variance)

    def features(self, matrices: Array) -> Array:
        return 0.5 * matrices[:, self._diagonal]

    def trace(self, packed: Array) -> Array:
        return packed.sum(1)

    def update(
        self, precision: Array, covariance: Array, log_det: Array, packed: Array, step: Array
    ) -> tuple[Array, Array]:
        new = packed + step[:, None] * (1 / np.einsum("aan->na", precision) - packed)
        return new, np.log(new).sum(1)

    def covariance(self, packed: Array) -> Array:
        full = np.zeros((len(packed), self.n_latent * (self.n_latent + 1) // 2), packed.dtype)
        full[:, self._diagonal] = packed
        return full

    def pack(self, covariance: Array) -> Array:
        return np.ascontiguousarray(covariance[:, self._diagonal])

    def mean_covariance(self, packed: Array) -> Array:
        return np.diag(packed.mean(0, dtype=np.float64))

    def times_loadings(self, weights: Array, loadings: Array) -> Array:
        return weights * loadings

    def full(self, weights: Array) -> Array:
        matrices = np.zeros((self.n_latent, self.n_latent, len(weights)), weights.dtype)
        np.einsum("aan->na", matrices)[...] = weights
        return matrices

    def rescaling(self, second_moment: Array) -> Array:
        return np.diag(np.sqrt(np.diag(second_moment)))

    def principal_axes(self, second_moment: Array) -> tuple[Array, Array]:
        return np.diag(second_moment), np.eye(self.n_latent)

    def transform(self, packed: Array, matrix: Array) -> Array:
        return packed * (np.diag(matrix) ** 2).astype(packed.dtype)

    def rotate(self, packed: Array, axes: Array) -> tuple[Array, Array]:
        rotated = packed @ (axes**2).astype(packed.dtype)
        return rotated, np.log(rotated).sum(1)


FAMILIES: dict[GaussianFamilyName, type[GaussianFamily]] = {"fullrank": FullRank, "meanfield": MeanField}
