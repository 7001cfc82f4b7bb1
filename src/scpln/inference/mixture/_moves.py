"""Moves between mixtures: two components into one, and one into two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._components import Components
from ._em import ComponentPrior, MixtureFit, fit_components

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._sites import Sites

#: How far the halves of a component lie from its mean, in standard deviations along its longest axis.
_APART = 0.6
#: Most moves that are accepted, pairs that are tried for each, and steps that a trial gets.
_MOVES, _TRIALS, _STEPS = 4, 2, 6
#: Cells below which nothing is split.
_FEWEST = 10
#: Gain per cell, nats, at which a trial ends.
_TOLERANCE = 1e-3


def overlap(responsibilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of a component is taken for another, for each pair (K, K), the greater of the two shares.

    A component's share with another is that of its cells whose most probable component that is: the probability that
    a cell is misclassified, estimated from responsibilities (n, K).

    References
    ----------
    C. Hennig (2010), Methods for merging Gaussian mixture components, Advances in Data Analysis and Classification 4: 3-34.
    """
    k = responsibilities.shape[1]
    taken = np.zeros((k, k))
    np.add.at(taken, responsibilities.argmax(1), responsibilities)
    shares = taken / np.maximum(responsibilities.sum(0), np.finfo(float).tiny)
    np.fill_diagonal(shares, 0)
    return np.maximum(shares, shares.T)


def merge(components: Components, first: int, second: int) -> Components:
    """Two components in one, of the same mean and covariance, in the place of the first."""
    pair = components.select(np.array([first, second]))
    loc = pair.weights @ pair.loc
    away = pair.loc - loc
    covariance = np.einsum("k,kab->ab", pair.weights, pair.covariance + away[:, :, None] * away[:, None, :])
    everything = [components.loc.copy(), components.covariance.copy(), components.weights.copy()]
    for array, value in zip(everything, (loc, covariance, components.weights[[first, second]].sum()), strict=True):
        array[first] = value
    return Components(*(np.delete(array, second, axis=0) for array in everything))


def split(components: Components, number: int) -> Components:
    """A component in two along its longest axis, which together have its mean and covariance; the second half is the last."""
    values, axes = np.linalg.eigh(components.covariance[number])
    step = _APART * np.sqrt(values[-1]) * axes[:, -1]
    loc, covariance = components.loc.copy(), components.covariance.copy()
    weights = components.weights.copy()
    weights[number] /= 2
    covariance[number] -= np.outer(step, step)
    loc[number] += step
    return Components(
        np.vstack([loc, loc[number] - 2 * step]),
        np.concatenate([covariance, covariance[number][None]]),
        np.append(weights, weights[number]),
    )


def to_number(sites: Sites, fit: MixtureFit, n_components: int, prior: ComponentPrior) -> MixtureFit:
    """So many components: those that overlap most are merged, or the largest are split, one at a time."""
    while fit.components.n_components != n_components:
        if fit.components.n_components > n_components:
            shares = overlap(fit.expectation.responsibilities)
            start = merge(fit.components, *sorted(map(int, np.unravel_index(shares.argmax(), shares.shape))))
        else:
            start = split(fit.components, int(fit.components.weights.argmax()))
        fit = fit_components(sites, start, prior=prior, max_iter=_STEPS, tol=_TOLERANCE)
    return fit


def split_and_merge(sites: Sites, fit: MixtureFit, prior: ComponentPrior) -> MixtureFit:
    """Merge two components that overlap and split a third, as long as the objective rises by it.

    Each move is followed by expectation maximisation of the whole. The objective is at least that of the start.

    References
    ----------
    N. Ueda, R. Nakano, Z. Ghahramani and G. Hinton (2000), SMEM algorithm for mixture models, Neural Computation 12(9): 2109-2128.
    """
    for _ in range(_MOVES):
        better = _move(sites, fit, prior)
        if better is None:
            return fit
        fit = better
    return fit


def _move(sites: Sites, fit: MixtureFit, prior: ComponentPrior) -> MixtureFit | None:
    """The first of the moves that raises the objective; None if none of those tried does."""
    components = fit.components
    if components.n_components < 3:
        return None
    shares = np.triu(overlap(fit.expectation.responsibilities))
    pairs = np.argsort(-shares, axis=None)[:_TRIALS]
    for first, second in zip(*np.unravel_index(pairs, shares.shape), strict=True):
        if first == second:
            continue
        third = _most_split(sites, fit, prior, {int(first), int(second)})
        if third is None:
            return None
        start = merge(split(components, third), int(first), int(second))
        trial = fit_components(sites, start, prior=prior, max_iter=_STEPS, tol=_TOLERANCE)
        if trial.objective > fit.objective + _TOLERANCE * len(sites):
            return trial
    return None


def _most_split(sites: Sites, fit: MixtureFit, prior: ComponentPrior, but: set[int]) -> int | None:
    """The component whose own cells gain most by a second one."""
    own, components = fit.expectation.responsibilities.argmax(1), fit.components
    gains: dict[int, float] = {}
    for k in range(components.n_components):
        cells = np.flatnonzero(own == k)
        if k in but or len(cells) < _FEWEST:
            continue
        alone = components.select(np.array([k]))
        one, two = (
            fit_components(sites[cells], start, prior=prior, max_iter=_STEPS, tol=_TOLERANCE)
            for start in (alone, split(alone, 0))
        )
        gains[k] = two.objective - one.objective
    return max(gains, key=lambda k: gains[k]) if gains else None
