"""Gradients of expectations under Gaussians from values of a log-density alone: the score-function estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array

    #: From log-rates η and counts y, which broadcast, to the log-probability of every entry, in nats.
    LogDensity: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class ScoreGradient(NamedTuple):
    """Estimates, each of every entry (n, p)."""

    value: Array  # E[ℓ]
    slope: Array  # its derivative by the mean
    weight: Array  # minus twice its derivative by the variance


def score_gradient(
    log_density: LogDensity,
    counts: Array,
    mean: Array,
    variance: Array,
    noise: Array,
    *,
    control_variate: bool = True,
) -> ScoreGradient:
    r"""Expectations of :math:`\ell(\eta) = \log p(y \mid \eta)` over :math:`\eta \sim N(\mu, v)`, and their derivatives [1]_.

    With draws :math:`\eta_k = \mu + \sqrt v \epsilon_k`, and nothing but values of ℓ at these,

    .. math:: \frac{\partial}{\partial \mu} = \frac1K \sum_k (\ell_k - b_k) \frac{\epsilon_k}{\sqrt v}, \qquad
        \frac{\partial}{\partial v} = \frac1K \sum_k (\ell_k - b_k) \frac{\epsilon_k^2 - 1}{2 v},

    where the control variate :math:`b_k` is the mean of the other draws' values [2]_. Every entry has its own draws: what does not depend on a
    log-rate is left out of its gradient (Rao–Blackwell), as the likelihood is a product over entries, and the posterior's marginals are all
    that its expectation depends on.

    Parameters
    ----------
    log_density
        ℓ, from η (K, n, p) and y (n, p) to (K, n, p).
    counts, mean, variance
        y, μ and v, (n, p) each.
    noise
        Standard normal ε, (K, n, p), with two draws or more.
    control_variate
        Whether it is subtracted; otherwise b = 0.

    References
    ----------
    .. [1] Ranganath, Gerrish and Blei (2014), Black box variational inference, AISTATS.
    .. [2] Mnih and Rezende (2016), Variational inference for Monte Carlo objectives, ICML. Kool, van Hoof and Welling (2019), Buy 4
       REINFORCE samples, get a baseline for free!

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((10_000, 1, 1))
    >>> def poisson(eta, y):
    ...     return y * eta - eta.exp() - torch.lgamma(y + 1)
    >>> gradient = score_gradient(poisson, np.array([[3.0]]), np.zeros((1, 1)), np.array([[0.5]]), noise)
    >>> gradient.slope.round(1), round(float(3 - np.exp(0.25)), 1)
    (array([[1.7]]), 1.7)
    """
    deviation = np.sqrt(variance)
    with torch.no_grad():
        eta = torch.from_numpy(mean + deviation * noise)
        values = log_density(eta, torch.from_numpy(counts)).numpy()
    average = values.mean(0)
    centred = (values - average) * (len(noise) / (len(noise) - 1)) if control_variate else values
    slope = np.einsum("knp,knp->np", centred, noise) / (len(noise) * deviation)
    weight = -np.einsum("knp,knp->np", centred, np.square(noise) - 1) / (len(noise) * variance)
    return ScoreGradient(average, slope, weight)


def check_log_density(log_density: object, counts: Array) -> None:
    """Raise an error unless it gives a finite log-probability of every entry, at log-rates near those of the counts."""
    if not callable(log_density):
        msg = f"likelihood={log_density!r} is no function of log-rates and counts."
        raise TypeError(msg)
    some = torch.from_numpy(np.ascontiguousarray(counts[:8], np.float64))
    eta = (some + 0.5).log().expand(2, *some.shape)
    with torch.no_grad():
        values = log_density(eta, some)
    if not isinstance(values, torch.Tensor) or values.shape != eta.shape or not bool(values.isfinite().all()):
        found = f"shape {tuple(values.shape)}" if isinstance(values, torch.Tensor) else type(values).__name__
        msg = (
            f"likelihood= gave {found} or values that are not finite for eta of shape {tuple(eta.shape)} and y of {tuple(some.shape)}: "
            "it must return the log-probability of every entry, of the shape of eta."
        )
        raise ValueError(msg)
