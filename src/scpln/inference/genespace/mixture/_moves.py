"""Moves between mixtures: two components into one, and one into two."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans

from scpln.inference.mixture import overlap

from ._parameters import MixtureParameters
from ._starts import KMEANS_STARTS, of_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scpln.core import Array

    from ._run import Run, Runner

#: Most moves that are accepted, and pairs and components that are tried for each.
MOVES, TRIALS = 3, 2
#: Cells below which nothing is split.
FEWEST = 4
#: Gain of the objective, nats, that makes a move.
LEAST_GAIN = 1e-2


def states_of(run: Run) -> tuple[Array, Array]:
    """Means of the log-rates beyond the design, and their variances, of each cell in its own component, (n, p) each."""
    design = run.profile.posteriors.observations.design[:, 1:]
    return run.of_own("mean") - design @ run.profile.parameters.slopes.T, run.of_own("variance")


def merge(given: MixtureParameters, first: int, second: int) -> MixtureParameters:
    """Two components in one, of the same mean and covariance, in the place of the first."""
    pair = given.select(np.array([first, second]))
    mean = pair.weights @ pair.means
    away = pair.means - mean
    moments = np.stack([each.dense for each in pair.covariances]) + away[:, :, None] * away[:, None, :]
    merged = given.select(np.arange(given.n_components))
    merged.means[first] = mean
    merged.weights[first] = given.weights[[first, second]].sum()
    merged.covariances[first].update(np.einsum("k,kab->ab", pair.weights, moments))
    del merged.covariances[second]
    return MixtureParameters(
        np.delete(merged.weights, second), np.delete(merged.means, second, axis=0), merged.slopes, merged.covariances
    )


def split(run: Run, component: int, seed: int) -> MixtureParameters | None:
    """A component in two, as 2-means parts its cells, the second the last; None if it has too few."""
    cells = np.flatnonzero(run.groups == component)
    states, variances = (array[cells] for array in states_of(run))
    if len(cells) < FEWEST or len(np.unique(states, axis=0)) == 1:
        return None
    order = np.argsort(((states - states.mean(0)) ** 2).sum(1), kind="stable")
    halves = np.empty(len(cells), np.intp)
    halves[order] = KMeans(2, n_init=KMEANS_STARTS, random_state=seed).fit_predict(states[order])
    given = run.profile.parameters
    parts = of_groups(states, variances, halves, 2, given.slopes, given.covariances[component])
    means, weights = np.vstack([given.means, parts.means[1]]), np.append(given.weights, 0.0)
    covariances = [*copy.deepcopy(given.covariances), parts.covariances[1]]
    means[component], covariances[component] = parts.means[0], parts.covariances[0]
    weights[[component, -1]] = given.weights[component] * parts.weights
    return MixtureParameters(weights, means, given.slopes.copy(), covariances)


def splits(run: Run, seed: int, but: tuple[int, ...] = ()) -> Iterator[MixtureParameters]:
    """Each component in two, the largest first."""
    for component in np.argsort(-run.profile.parameters.weights, kind="stable"):
        if component not in but and (start := split(run, int(component), seed)) is not None:
            yield start


def merges(run: Run) -> Iterator[tuple[int, int]]:
    """Pairs of components, those that overlap most first."""
    shares = overlap(run.responsibilities)
    rows, columns = np.triu_indices(len(shares), 1)
    for place in np.argsort(-shares[rows, columns], kind="stable"):
        yield int(rows[place]), int(columns[place])


def split_and_merge(runner: Runner, run: Run, seed: int) -> Run:
    """Merge two components that overlap and split a third, as long as the objective rises by it.

    References
    ----------
    N. Ueda, R. Nakano, Z. Ghahramani and G. Hinton (2000), SMEM algorithm for mixture models, Neural Computation 12(9): 2109-2128.
    """
    for _ in range(MOVES):
        better = _move(runner, run, seed)
        if better is None:
            return run
        run = better
        if run.interrupted:
            return run
    return run


def _move(runner: Runner, run: Run, seed: int) -> Run | None:
    if run.n_components < 3:
        return None
    for pair, _ in zip(merges(run), range(TRIALS), strict=False):
        for start, _ in zip(splits(run, seed, pair), range(TRIALS), strict=False):
            trial = runner.short(merge(start, *pair))
            if trial.interrupted:
                return None
            if trial.objective > run.objective + LEAST_GAIN:
                return runner.finish(trial)
    return None
