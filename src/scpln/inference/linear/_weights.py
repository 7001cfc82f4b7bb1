"""Normal distributions over the weights of a linear layer: with all covariances, or independent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.linalg import cholesky, solve_triangular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Families of the covariance of the weights.
CovarianceName = Literal["full", "diagonal"]
#: Numbers of a temporary array, which then stays in the processor's cache.
_BLOCK = 2**17
#: Curvature of a cell in a logit below which nothing is added that could be seen.
_NOTHING = 1e-10
#: Steps to the best tilts, at most; the part of each that is taken; and what is no more worth a step.
_TILTS, _PART, _TILT_TOL = 8, 2 / 3, 1e-4


class WeightCovariance(ABC):
    """Covariance Σ of the weights W (f × C) of a linear layer."""

    @classmethod
    @abstractmethod
    def curvature(cls, features: Floats, probabilities: Floats, weights: Floats) -> Floats:
        """Σ_i w_i (diag g_i − g_i g_iᵀ) ⊗ x_i x_iᵀ, as the family stores it, of x (n × f), g (n × C) and w (n)."""

    @classmethod
    @abstractmethod
    def of(cls, curvature: Floats, precision: Floats) -> WeightCovariance:
        """The inverse of a curvature plus a diagonal precision (f × C)."""

    @classmethod
    @abstractmethod
    def of_factor(cls, factor: Floats, n_classes: int) -> WeightCovariance:
        """The one with this factor."""

    @property
    @abstractmethod
    def factor(self) -> Floats:
        """L, with L Lᵀ = Σ, as it is stored."""

    @abstractmethod
    def spread(self, features: Floats, logits: Floats) -> Floats:
        """Variances u_ic = Var(a_ic − t_iᵀa_i) of the logits a = Wᵀx (n × C) with these means, at the tilts t that are best."""

    @abstractmethod
    def scaled(self, noise: Floats) -> Floats:
        """L e of e in the shape of the weights (… × f × C)."""

    @abstractmethod
    def scaled_back(self, slope: Floats) -> Floats:
        """Lᵀ s of s (f × C)."""

    @property
    @abstractmethod
    def variance(self) -> Floats:
        """Diagonal of Σ (f × C)."""

    @property
    @abstractmethod
    def log_det(self) -> float:
        """Logarithm of the determinant of Σ."""


class FullCovariance(WeightCovariance):
    """All weights correlated, as the exact posterior has them. Order n (C f)² for each inverse.

    Parameters
    ----------
    factor
        L (C f × C f), upper triangular, with the features of each class side by side.
    n_classes
        C.
    """

    def __init__(self, factor: Floats, n_classes: int) -> None:
        self._factor, self.n_classes = factor, n_classes
        self.n_features = len(factor) // n_classes

    @classmethod
    def curvature(cls, features: Floats, probabilities: Floats, weights: Floats) -> Floats:
        (_, f), n_classes = features.shape, probabilities.shape[1]
        found = np.zeros((n_classes, f, n_classes, f))
        for a in range(n_classes):
            for b in range(a, n_classes):
                curvature = weights * probabilities[:, a] * ((a == b) - probabilities[:, b])
                used = np.flatnonzero(np.abs(curvature) > _NOTHING)
                found[a, :, b] = features[used].T @ (features[used] * curvature[used, None])
                found[b, :, a] = found[a, :, b].T
        return found.reshape(n_classes * f, n_classes * f)

    @classmethod
    def of(cls, curvature: Floats, precision: Floats) -> FullCovariance:
        lower = cholesky(curvature + np.diag(precision.T.ravel()), lower=True)
        return cls(solve_triangular(lower, np.eye(len(lower)), lower=True).T, precision.shape[1])

    @classmethod
    def of_factor(cls, factor: Floats, n_classes: int) -> FullCovariance:
        return cls(factor, n_classes)

    @property
    def factor(self) -> Floats:
        return self._factor

    def spread(self, features: Floats, logits: Floats) -> Floats:
        c, f = self.n_classes, self.n_features
        covariance = (self.factor @ self.factor.T).reshape(c, f, c, f)
        found = np.empty_like(logits)
        for rows in blocks(len(logits), c * c):
            of_cells = np.empty((len(logits[rows]), c, c))
            for a in range(c):
                for b in range(a, c):
                    product = features[rows] @ covariance[a, :, b]
                    of_cells[:, a, b] = of_cells[:, b, a] = np.einsum("nf,nf->n", product, features[rows])
            found[rows] = _at_best_tilt(partial(_spread, of_cells), logits[rows])
        return np.maximum(found, 0)

    def scaled(self, noise: Floats) -> Floats:
        flat = np.swapaxes(noise, -1, -2).reshape(*noise.shape[:-2], -1)
        shape = (*noise.shape[:-2], self.n_classes, self.n_features)
        return np.swapaxes((flat @ self.factor.T).reshape(shape), -1, -2)

    def scaled_back(self, slope: Floats) -> Floats:
        return np.asarray((slope.T.ravel() @ self.factor).reshape(self.n_classes, self.n_features).T)

    @property
    def variance(self) -> Floats:
        return np.asarray((self.factor**2).sum(1).reshape(self.n_classes, self.n_features).T)

    @property
    def log_det(self) -> float:
        return 2 * float(np.log(np.diag(self.factor)).sum())


class DiagonalCovariance(WeightCovariance):
    """Independent weights, of many genes or many classes. Order n C f.

    Parameters
    ----------
    factor
        Standard deviations (f × C).
    """

    def __init__(self, factor: Floats) -> None:
        self._factor = factor

    @classmethod
    def curvature(cls, features: Floats, probabilities: Floats, weights: Floats) -> Floats:
        return np.asarray((features**2).T @ (weights[:, None] * probabilities * (1 - probabilities)))

    @classmethod
    def of(cls, curvature: Floats, precision: Floats) -> DiagonalCovariance:
        return cls((precision + curvature) ** -0.5)

    @classmethod
    def of_factor(cls, factor: Floats, n_classes: int) -> DiagonalCovariance:
        return cls(factor)

    @property
    def factor(self) -> Floats:
        return self._factor

    def spread(self, features: Floats, logits: Floats) -> Floats:
        found, variance = np.empty_like(logits), self.variance
        for rows in blocks(*logits.shape):
            of_cells = features[rows] ** 2 @ variance
            found[rows] = _at_best_tilt(partial(_spread_of_independent, of_cells), logits[rows])
        return found

    def scaled(self, noise: Floats) -> Floats:
        return noise * self.factor

    def scaled_back(self, slope: Floats) -> Floats:
        return slope * self.factor

    @property
    def variance(self) -> Floats:
        return np.asarray(self.factor**2)

    @property
    def log_det(self) -> float:
        return 2 * float(np.log(self.factor).sum())


COVARIANCES: dict[CovarianceName, type[WeightCovariance]] = {"full": FullCovariance, "diagonal": DiagonalCovariance}
"""Families by name."""


def softmax(logits: Floats) -> Floats:
    """e^a / Σ e^a along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    powers /= powers.sum(-1, keepdims=True)
    return powers


def blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows whose arrays of this width stay in the processor's cache."""
    size = max(1, _BLOCK // width)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _spread(covariance: Floats, tilt: Floats) -> Floats:
    """u_c = S_cc − 2 (S t)_c + tᵀS t, of the covariances of the logits of cells (n × C × C)."""
    with_tilt = (covariance @ tilt[:, :, None])[:, :, 0]
    return np.einsum("naa->na", covariance) - 2 * with_tilt + np.einsum("na,na->n", with_tilt, tilt)[:, None]


def _spread_of_independent(variance: Floats, tilt: Floats) -> Floats:
    """u_c = v_c (1 − 2 t_c) + Σ_k t_k² v_k."""
    weighted = tilt * variance
    return variance - 2 * weighted + np.einsum("nc,nc->n", tilt, weighted)[:, None]


def _at_best_tilt(spread: Callable[[Floats], Floats], logits: Floats) -> Floats:
    """u(t) at the fixed point t = softmax(m + u(t) / 2), where the bound is highest; every t gives a bound.

    The map has slopes between −1 and 0, since no cell has a leverage above 1, so that steps of two thirds leave at most a third of the way.
    """
    tilt = softmax(logits)
    for _ in range(_TILTS):
        found = spread(tilt)
        change = softmax(logits + found / 2) - tilt
        if np.abs(change).max() < _TILT_TOL:
            return found
        tilt += _PART * change
    return spread(tilt)
