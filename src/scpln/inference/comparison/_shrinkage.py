"""Effects drawn towards the one that most genes have, by as much as all effects say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Standard deviations of the prior's components besides a point.
_COMPONENTS = 20
#: So many genes more are counted as unchanged, so that few genes do not make a prior of their own noise.
_PSEUDO_GENES = 10.0
#: Most iterations of the weights, most updates of the mode, and the change at which either ends.
_ITERATIONS, _MODES, _SMALL = 200, 100, 1e-5


@dataclass(frozen=True)
class Shrunken:
    """Effects (p,) under the prior: posterior mean, standard deviation, and s value; and where they are counted from.

    The s value is the expected share of wrong signs among the genes whose sign is at least as certain.
    """

    mean: Array
    sd: Array
    s_values: Array
    center: Array


def shrink(effects: Array, errors: Array, features: Array | None = None) -> Shrunken:
    r"""Posterior of effects under a prior that is learned from all of them.

    .. math:: \hat b_j \sim N(b_j, s_j^2), \quad b_j - f_j \cdot \theta \sim \pi_0 \delta_0 + \sum_k \pi_k N(0, \sigma_k^2)

    Parameters
    ----------
    effects, errors
        Estimates (p,) and their standard errors.
    features
        f (p × r), by which most effects are what they are; θ is estimated, and effects are counted from :math:`f_j \cdot \theta`. By
        default none.

    References
    ----------
    M. Stephens (2017), False discovery rates: a new deal, Biostatistics 18: 275-294.

    Examples
    --------
    >>> shrink(np.array([0.1, 3.0, 0.0, 0.3]), np.full(4, 0.2)).mean.round(1)
    array([0., 3., 0., 0.])
    """
    center = np.zeros_like(effects) if features is None else np.full_like(effects, np.median(effects))
    widest = 2 * np.sqrt(max(((effects - center) ** 2 - errors**2).max(initial=0.0), np.median(errors) ** 2))
    sds = np.concatenate([[0.0], np.geomspace(max(errors.min() / 10, widest / 1e3), widest, _COMPONENTS)])
    variances = sds**2 + errors[:, None] ** 2
    weights = np.full(len(sds), 1 / len(sds))
    for _ in range(_MODES):
        density = _density(effects - center, variances)
        for _ in range(_ITERATIONS):
            member = density * weights
            member /= member.sum(1, keepdims=True)
            counts = member.sum(0)
            counts[0] += _PSEUDO_GENES
            before, weights = weights, np.maximum(counts / counts.sum(), 1e-300)
            if np.abs(weights - before).max() < _SMALL:
                break
        if features is None:
            break
        weighted = features * (member / variances).sum(1)[:, None]
        before, center = center, features @ np.linalg.lstsq(features.T @ weighted, weighted.T @ effects, rcond=1e-10)[0]
        if np.abs(center - before).max() < _SMALL * np.median(errors):
            break
    return _posterior(effects - center, errors, sds, member, center)


def _density(effects: Array, variances: Array) -> Array:
    """Density of each effect under each component (p × K), up to a factor of the effect."""
    logs = -0.5 * np.log(variances) - 0.5 * effects[:, None] ** 2 / variances
    return np.exp(logs - logs.max(axis=1, keepdims=True))


def _posterior(effects: Array, errors: Array, sds: Array, member: Array, center: Array) -> Shrunken:
    share = sds**2 / (sds**2 + errors[:, None] ** 2)
    means = share * effects[:, None]
    spreads = np.sqrt(share) * errors[:, None]
    mean = (member * means).sum(1)
    sd = np.sqrt(np.maximum((member * (spreads**2 + means**2)).sum(1) - mean**2, 0.0))
    below = np.exp(log_ndtr(-means[:, 1:] / np.maximum(spreads[:, 1:], 1e-300)))
    negative = (member[:, 1:] * below).sum(1)
    wrong = member[:, 0] + np.minimum(negative, member[:, 1:].sum(1) - negative)
    wrong = np.clip(wrong, 0.0, 1.0)
    order = np.argsort(wrong, kind="stable")
    s_values = np.empty_like(wrong)
    s_values[order] = np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1)
    return Shrunken(mean, sd, s_values, center)
