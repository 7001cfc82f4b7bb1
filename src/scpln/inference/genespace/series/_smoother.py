"""Kalman filter and smoother of series, without the inverse of any prior covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.inference.genespace._factors import inverse_factors

from ._process import ProcessSlope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import Array

    from ._order import Order
    from ._process import Process


@dataclass
class Place:
    """What is known of the samples at one place of their series, of those that are so long."""

    rows: NDArray[np.intp]  # which samples, (k,)
    decay: Array  # diagonals of A = Φ^Δ from the sample before, (k, p)
    predicted: Array  # P, covariances given the pseudo-observations before, (k, p, p)
    factors: Array  # T with S⁻¹ = TᵀT, of S = P + diag(1/a), (k, p, p)
    filtered: Array  # F = P − P S⁻¹ P, covariances given their own, too, (k, p, p)


class Smoother:
    r"""Gaussian posteriors of whole series, with precision :math:`K^{-1} + \text{diag}\, a`, of a prior covariance K of all samples and genes.

    They are those of observations :math:`v = r + N(0, \text{diag}(1/a))` of an autoregressive process, which the Kalman filter and
    the smoother of de Jong (1989) give in :math:`T p^3` operations for T samples, though the precision is block-tridiagonal and its inverse full. With
    :math:`\mathcal{K} = (K + \text{diag}(1/a))^{-1}`, nothing is divided by K, so that singular covariances do no harm:

    .. math:: V = K - K \mathcal{K} K, \quad \log\det(I + a^{1/2} K a^{1/2}) = \sum_t \log\det(I + a_t^{1/2} P_t a_t^{1/2}).

    Arrays of all samples come in and go out, (n, p); rows of other series are 0.

    Parameters
    ----------
    process, order
        Prior of the residuals.
    chosen
        Numbers of the series, ascending.
    weight
        a, (n, p), positive.

    References
    ----------
    P. de Jong (1989), Smoothing and interpolation with the state-space model, Journal of the American Statistical Association 84: 1085-1088.
    S. J. Koopman and N. Shephard (1992), Exact score for time series models in state space form, Biometrika 79: 823-826.
    """

    def __init__(self, process: Process, order: Order, chosen: NDArray[np.intp], weight: Array) -> None:
        self.process, self.order, self.chosen = process, order, chosen
        self.shape, self.stationary = weight.shape, process.stationary
        self.log_det = np.zeros(len(weight))
        self.places: list[Place] = []
        for rows in order.of_series(chosen):
            self.places.append(self._filter(rows, weight[rows]))

    def _filter(self, rows: NDArray[np.intp], weight: Array) -> Place:
        """The next place."""
        decay, root = self.process.decay(self.order.lags[rows]), np.sqrt(weight)
        before = self.stationary
        if self.places:
            before = self.stationary - self.places[-1].filtered[: len(rows)]
        predicted = self.stationary - decay[:, :, None] * before * decay[:, None, :]
        matrices = root[:, :, None] * predicted * root[:, None, :]
        diagonal = np.arange(self.shape[1])
        matrices[:, diagonal, diagonal] += 1
        factors, self.log_det[rows] = inverse_factors(matrices)
        factors *= root[:, None, :]
        reach = factors @ predicted
        return Place(rows, decay, predicted, factors, predicted - _transposed(reach) @ reach)

    def solve(self, vectors: Array) -> Array:
        """Vectors u = 𝒦 v."""
        innovations, mean = np.zeros(self.shape), np.zeros((0, self.shape[1]))
        for place in self.places:  # forward: S⁻¹ of what is new in each
            predicted = place.decay * mean[: len(place.rows)] if len(mean) else np.zeros_like(place.decay)
            scaled = _quadratic(place.factors, vectors[place.rows] - predicted)
            mean = predicted + _times(place.predicted, scaled)
            innovations[place.rows] = scaled
        result, later = np.zeros(self.shape), np.zeros((0, self.shape[1]))
        for place in reversed(self.places):  # backward: less what later ones say
            known, scaled = slice(0, len(later)), innovations[place.rows]
            scaled[known] -= _quadratic(place.factors[known], _times(place.predicted[known], later))
            result[place.rows] = scaled
            later = place.decay * _added(scaled, later)
        return result

    def prior(self, vectors: Array) -> Array:
        """K u: covariances with all samples of the series."""
        result, mean = np.zeros(self.shape), np.zeros((0, self.shape[1]))
        for place in self.places:
            own = vectors[place.rows] @ self.stationary
            mean = own + (place.decay * mean[: len(own)] if len(mean) else 0)
            result[place.rows] = mean
        later = np.zeros((0, self.shape[1]))
        for place in reversed(self.places):
            result[place.rows[: len(later)]] += later @ self.stationary
            later = place.decay * _added(vectors[place.rows], later)
        return result

    def variance(self) -> Array:
        """Diagonals of V."""
        result = np.zeros(self.shape)
        for place, information in self._smooth():
            reach = place.predicted @ information
            removed = np.einsum("kij,kij->ki", reach, place.predicted)
            result[place.rows] = np.maximum(np.einsum("kii->ki", place.predicted) - removed, 0)
        return result

    def covariance(self) -> Array:
        """Covariances V_tt of every sample, (n, p, p)."""
        result = np.zeros((*self.shape, self.shape[1]))
        for place, information in self._smooth():
            result[place.rows] = place.predicted - place.predicted @ information @ place.predicted
        return result

    def slope(self, shift: Array, residual: Array) -> ProcessSlope:
        r"""Slope of the bound by the process, at shifts :math:`\alpha = K^{-1} r` and means r.

        With :math:`\rho_t = \alpha_t + A_{t+1} \rho_{t+1}`, and its counterpart :math:`N_t` for 𝒦, twice the slope by the covariance of
        the innovation at t is :math:`G_t = \rho_t \rho_t^T - N_t`, and the slope by A_t is the diagonal of
        :math:`\rho_t r_{t-1}^T - N_t A_t F_{t-1}` (Koopman and Shephard).
        """
        p = self.shape[1]
        total = ProcessSlope(np.zeros((p, p)), np.zeros(p))
        later = np.zeros((0, p))
        for t, (place, information) in zip(range(len(self.places) - 1, -1, -1), self._smooth(), strict=True):
            score, decay = _added(shift[place.rows], later), place.decay
            later = decay * score
            gradient = score[:, :, None] * score[:, None, :] - information
            total.stationary += (gradient * (1 - decay[:, :, None] * decay[:, None, :])).sum(0)
            by_decay = -np.einsum("jk,nk,nkj->nj", self.stationary, decay, gradient)
            if t:
                before, known = self.places[t - 1], slice(0, len(place.rows))
                by_decay += score * residual[before.rows[known]]
                by_decay -= np.einsum("njk,nk,nkj->nj", information, decay, before.filtered[known])
            total.phi += (by_decay * self.process.decay_slope(self.order.lags[place.rows])).sum(0)
        return total

    def _smooth(self) -> Iterator[tuple[Place, Array]]:
        r"""Places from the last to the first with N, (k, p, p).

        :math:`N_t = S_t^{-1} + J^T A_{t+1} N_{t+1} A_{t+1} J` with :math:`J = I - P S^{-1}`: V_tt is P − P N P.
        """
        later = np.zeros((0, *self.stationary.shape))
        for place in reversed(self.places):
            information, known = _transposed(place.factors) @ place.factors, slice(0, len(later))
            if len(later):
                kept = np.eye(self.shape[1]) - place.predicted[known] @ information[known]
                information[known] += _transposed(kept) @ later @ kept
            later = place.decay[:, :, None] * information * place.decay[:, None, :]
            yield place, information


def _added(values: Array, later: Array) -> Array:
    """Values, to the first of which those of the next place are added; a copy."""
    total = values.copy()
    total[: len(later)] += later
    return total


def _transposed(matrices: Array) -> Array:
    return matrices.transpose(0, 2, 1)


def _times(matrices: Array, vectors: Array) -> Array:
    return np.matmul(matrices, vectors[:, :, None])[:, :, 0]


def _quadratic(factors: Array, vectors: Array) -> Array:
    """TᵀT v."""
    return _times(_transposed(factors), _times(factors, vectors))
