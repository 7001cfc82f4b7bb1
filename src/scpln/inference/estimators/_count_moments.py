"""The Poisson log-normal probability of single counts by adaptive quadrature, with its first and second slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from scpln.module.likelihoods._laplace import mode_shift, quadrature

if TYPE_CHECKING:
    from scpln.core import Array

#: Log-rates are cut here, which only happens on the way to an estimate.
MAX_LOG_RATE = 100.0


class CountMoments(NamedTuple):
    """Log-probabilities of counts and their slopes, of the same shape each; log y! is left out."""

    value: Array
    by_eta: Array
    by_sd: Array
    by_eta_eta: Array
    by_eta_sd: Array
    by_sd_sd: Array


def count_moments(eta: Array, counts: Array, sd: Array, *, slopes: bool = True) -> CountMoments:
    r"""Values and slopes of :math:`\log \int \text{Poisson}(y \mid e^{\eta + \sigma t}) \, N(t; 0, 1) dt + \log y!`.

    Nodes are at the mode of the integrand, in units of its width there, by the trapezoidal rule in :math:`\sinh^{-1}` (`quadrature`): errors are
    1e-8 and less up to σ = 3. Slopes are moments under the integrand, by Fisher's and Louis' identities [1]_: with the residual
    :math:`s = y - e^{\eta + \sigma t}`, E[s] by η, E[st] by σ, and :math:`E[s^2 - \lambda] - E[s]^2` by η twice.

    Parameters
    ----------
    eta, counts, sd
        Log-rates, counts and standard deviations σ > 0, of shapes that broadcast.
    slopes
        Whether those are computed; otherwise they are empty.

    References
    ----------
    .. [1] Louis (1982), Finding the observed information matrix when using the EM algorithm. JRSS B 44, 226-233.

    Examples
    --------
    >>> moments = count_moments(np.array([0.0, 0.0]), np.array([0.0, 3.0]), np.array([1.0]))
    >>> moments.value.round(4), moments.by_eta.round(4)
    (array([-0.963 , -0.7248]), array([-0.6781,  0.6873]))
    """
    eta, counts, sd = np.broadcast_arrays(eta, counts, sd)
    mode = _modes(eta, counts, sd)
    width = 1 / np.sqrt(1 + np.square(sd) * np.exp(np.minimum(eta + sd * mode, MAX_LOG_RATE)))
    nodes, log_weights = quadrature()
    t = mode[..., None] + width[..., None] * nodes
    log_rate = np.minimum(eta[..., None] + sd[..., None] * t, MAX_LOG_RATE)
    rate = np.exp(log_rate)
    terms = counts[..., None] * log_rate - rate
    terms -= 0.5 * np.square(t)
    terms += log_weights
    largest = terms.max(-1, keepdims=True)
    weights = np.exp(terms - largest)
    total = weights.sum(-1)
    value = largest[..., 0] + np.log(total * width) - 0.5 * np.log(2 * np.pi)
    if not slopes:
        nothing = np.empty(0)
        return CountMoments(value, nothing, nothing, nothing, nothing, nothing)
    weights /= total[..., None]
    residual = counts[..., None] - rate
    curvature = np.square(residual) - rate
    first, second = (np.einsum("...k,...k->...", weights, each) for each in (residual, residual * t))
    weights_t = weights * t
    eta_eta = np.einsum("...k,...k->...", weights, curvature)
    eta_sd, sd_sd = (
        np.einsum("...k,...k->...", weights_t, curvature),
        np.einsum("...k,...k,...k->...", weights_t, t, curvature),
    )
    return CountMoments(value, first, second, eta_eta - first**2, eta_sd - first * second, sd_sd - second**2)


def _modes(eta: Array, counts: Array, sd: Array) -> Array:
    """Where the integrand is largest, in t."""
    rows, variance = (torch.from_numpy(np.ascontiguousarray(each, np.float64)) for each in (eta, np.square(sd)))
    pull = variance * torch.from_numpy(np.ascontiguousarray(counts, np.float64))
    shift = mode_shift(rows, pull, variance.log())
    return np.asarray(shift) / sd
