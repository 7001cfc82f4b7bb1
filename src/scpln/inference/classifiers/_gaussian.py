"""Gaussian components, with four families of covariances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from scipy.linalg import solve_triangular

from ._components import Components

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Covariance = Literal["full", "diagonal", "spherical", "tied"]
COVARIANCES: tuple[Covariance, ...] = ("full", "diagonal", "spherical", "tied")
#: Least variance of a column, as a share of the mean one, of which the ridge is made.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class GaussianComponents(Components):
    r"""x | k ~ N(μ_k, Σ_k), with Σ_k ~ exp(−½ tr(Λ Σ_k⁻¹)), the kernel of an inverse Wishart distribution.

    With N_k = Σ_i τ_ik and S_k = Σ_i τ_ik (x_i − μ_k)(x_i − μ_k)ᵀ, the maximum is Σ_k = (S_k + Λ) / N_k; of ``"diagonal"`` its diagonal,
    of ``"spherical"`` σ_k² = tr(S_k + Λ) / (d N_k), and of ``"tied"``, of which there is one, (Σ_k S_k + Λ) / N. Without Λ a component of few
    rows has a singular covariance and an infinite likelihood.

    Attributes
    ----------
    means
        μ (K × d).
    covariances
        Σ_k (K × d × d), or variances (K × d; ``"spherical"``: K), or Σ (d × d) of ``"tied"``.
    ridge
        Diagonal of Λ (d).
    covariance
        Name of the family.
    """

    name: ClassVar[str] = "gaussian"
    means: Floats
    covariances: Floats
    ridge: Floats
    covariance: Covariance = "full"

    @classmethod
    def start(
        cls, x: Floats, responsibilities: Floats, *, covariance: Covariance = "full", ridge: float = 1e-3
    ) -> Self:
        """The maximum given responsibilities, with Λ = `ridge` × the variances of all rows."""
        weights = responsibilities.sum(1)
        mean = weights @ x / weights.sum()
        variance = weights @ (x - mean) ** 2 / weights.sum()
        least = _LEAST_VARIANCE * variance.mean()
        prior = ridge * np.maximum(variance, least if least > 0 else 1.0)
        empty = cls(np.empty((responsibilities.shape[1], x.shape[1])), np.empty(0), prior, covariance)
        return empty.maximized(x, responsibilities)

    def maximized(self, statistics: Floats, responsibilities: Floats) -> Self:
        """Closed form."""
        x, sizes = statistics, responsibilities.sum(0)
        means = (responsibilities.T @ x) / sizes[:, None]
        kind = self.covariance
        dense = kind in ("full", "tied")
        scatter = np.empty((len(sizes), x.shape[1], x.shape[1]) if dense else means.shape)
        for k, mean in enumerate(means):
            centred = x - mean
            weighted = responsibilities[:, k, None] * centred
            scatter[k] = weighted.T @ centred if dense else np.einsum("ij,ij->j", weighted, centred)
        if kind == "full":
            covariances = (scatter + np.diag(self.ridge)) / sizes[:, None, None]
        elif kind == "tied":
            covariances = (scatter.sum(0) + np.diag(self.ridge)) / sizes.sum()
        elif kind == "diagonal":
            covariances = (scatter + self.ridge) / sizes[:, None]
        else:
            covariances = (scatter.sum(1) + self.ridge.sum()) / (sizes * x.shape[1])
        return replace(self, means=means, covariances=covariances)

    def log_prob(self, statistics: Floats) -> Floats:
        """−½ (d log 2π + log|Σ_k| + ‖L_k⁻¹(x − μ_k)‖²), with Σ_k = L_k L_kᵀ."""
        n, d = statistics.shape
        found = np.empty((n, len(self.means)))
        dense = self.covariance in ("full", "tied")
        roots = self._roots if dense else []
        for k, mean in enumerate(self.means):
            if dense:
                inverse, log_det = roots[k]
                white = statistics @ inverse.T - inverse @ mean
            else:
                variance = self._variances[k]
                log_det = np.log(variance).sum()
                white = (statistics - mean) / np.sqrt(variance)
            found[:, k] = -0.5 * (d * np.log(2 * np.pi) + log_det + np.einsum("ij,ij->i", white, white))
        return found

    @cached_property
    def _roots(self) -> list[tuple[Floats, float]]:
        """L_k⁻¹ and log|Σ_k|."""
        found = []
        for matrix in self.dense if self.covariance == "full" else [self.covariances]:
            root = np.linalg.cholesky(matrix)
            inverse = solve_triangular(root, np.eye(len(root)), lower=True)
            found.append((inverse, float(2 * np.log(np.diag(root)).sum())))
        return found if self.covariance == "full" else found * len(self.means)

    @property
    def _variances(self) -> Floats:
        """Diagonals of Σ_k (K × d)."""
        variances = self.covariances if self.covariances.ndim > 1 else self.covariances[:, None]
        return np.broadcast_to(variances, self.means.shape)

    @property
    def dense(self) -> Floats:
        """Σ_k as matrices (K × d × d)."""
        if self.covariance == "full":
            return self.covariances
        if self.covariance == "tied":
            return np.broadcast_to(self.covariances, (len(self.means), *self.covariances.shape))
        return np.stack([np.diag(variance) for variance in self._variances])

    @property
    def log_prior(self) -> float:
        """−½ Σ_k tr(Λ Σ_k⁻¹), over the covariances that there are."""
        if self.covariance in ("full", "tied"):
            roots = self._roots[: 1 if self.covariance == "tied" else None]
            return float(-0.5 * sum((inverse**2 @ self.ridge).sum() for inverse, _ in roots))
        return float(-0.5 * (self.ridge / self._variances).sum())

    @property
    def n_parameters(self) -> int:
        """Of means and covariances."""
        n, d = self.means.shape
        each = {"full": n * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diagonal": n * d, "spherical": n}
        return n * d + each[self.covariance]

    def subset(self, kept: NDArray[np.intp]) -> Self:
        """Some of the components."""
        covariances = self.covariances if self.covariance == "tied" else self.covariances[kept]
        return replace(self, means=self.means[kept], covariances=covariances)

    def sample(self, component: NDArray[np.intp], random: np.random.Generator, totals: NDArray[np.int64]) -> Floats:
        """μ_k + L_k ε."""
        found = random.standard_normal((len(component), self.means.shape[1]))
        for k, root in enumerate(np.linalg.cholesky(self.dense)):
            chosen = component == k
            found[chosen] = self.means[k] + found[chosen] @ root.T
        return found

    @property
    def arrays(self) -> dict[str, Floats]:
        """``means``, ``covariances``, ``ridge``."""
        return {"means": self.means, "covariances": self.covariances, "ridge": self.ridge}
