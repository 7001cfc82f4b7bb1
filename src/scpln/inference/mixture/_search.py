"""A mixture from several starts, and the number of its components by a held-out bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ._components import Components, expect
from ._em import ComponentPrior, MixtureFit, fit_components
from ._moves import split_and_merge, to_number
from ._starts import components_of_groups, kmeans_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ._sites import Sites

#: Groups of cells (n,) from their states (n, q) and a seed.
Grouping: TypeAlias = "Callable[[NDArray[np.float64], int], NDArray[np.int64]]"

#: Cells that starts and numbers of components are compared on, at most; all of them make the mixture in the end.
_CELLS = 1_200
#: Seeds of k-means, and groups that it makes where it has to say how many components there may be.
_KMEANS, _MOST_GROUPS = 2, 20
#: One cell of so many judges the number of components; losses of so many standard errors are none.
_HELD_OUT, _STANDARD_ERRORS = 5, 2.0
#: Steps of a start before it is compared with others, and gain per cell, nats, at which it ends.
_STEPS, _TOLERANCE = 20, 1e-3


def fit_mixture(
    sites: Sites,
    n_components: int | None,
    *,
    groups: Sequence[Grouping] = (),
    known: NDArray[np.int64] | None = None,
    prior: ComponentPrior | None = None,
    seed: int = 0,
) -> MixtureFit:
    """Fit a mixture by expectation maximisation from several starts, of which the best bound is taken.

    Starts are k-means on posterior means, and other groups, whose number is made that of the components by merging those
    that overlap or splitting the largest. The best one is improved by moves that merge two components and split a third.

    Parameters
    ----------
    sites
        Likelihoods of n cells, from their posteriors under N(0, I).
    n_components
        Components K; with None, the fewest whose held-out bound is within two standard errors of the best, on the way from the
        largest start down by merging those components that overlap most.
    groups
        Other methods that group cells, from their states (n, q) and a seed: at most 1,200 of the cells.
    known
        Component of each cell (n,), −1 where it is not known. Components of those have the moments of their cells at the
        start, and there are no moves.
    prior
        Weak prior of the components.
    seed
        Of k-means and the cells that are held out.

    Examples
    --------
    >>> import numpy as np
    >>> mean = np.concatenate([np.full((50, 1), -2.0), np.full((50, 1), 2.0)]) + np.linspace(-0.3, 0.3, 100)[:, None]
    >>> from scpln.inference.mixture import Sites
    >>> fit = fit_mixture(Sites.of(mean, np.full((100, 1), 0.1)), 2)
    >>> np.bincount(fit.expectation.responsibilities.argmax(1))
    array([50, 50])
    """
    prior = prior or ComponentPrior()
    n = len(sites)
    if known is not None:
        assert n_components is not None
        return _semi_supervised(sites, n_components, known, prior, seed)
    some = np.unique(np.linspace(0, n - 1, min(n, _CELLS)).astype(int))
    part = sites[some]
    given = [find(part.mean, seed) for find in groups]
    if n_components is None:
        n_components = choose_n_components(part, given, prior, seed=seed)
    starts = [*given, *(kmeans_groups(part.mean, n_components, seed=seed + i) for i in range(_KMEANS))]
    fits = [to_number(part, _fit_groups(part, one, prior, seed), n_components, prior) for one in starts]
    best = max(fits, key=lambda fit: fit.objective)
    best = split_and_merge(part, best, prior)
    return fit_components(sites, best.components, prior=prior)


def choose_n_components(sites: Sites, groups: Sequence[NDArray[np.int64]], prior: ComponentPrior, *, seed: int) -> int:
    """Fewest components whose held-out bound is within two standard errors of the best.

    From groups that are many, or k-means, components are merged one pair after the other. A fifth of the cells is held out;
    components that overlap describe it hardly better than one in their place, so that they are merged.
    """
    n = len(sites)
    order = np.random.default_rng(seed).permutation(n)
    held_out, rest = order[: n // _HELD_OUT], np.sort(order[n // _HELD_OUT :])
    if len(held_out) < 2:
        return 1
    most = min(_MOST_GROUPS, max(len(rest) // _FEWEST_CELLS, 1))
    start = max(groups, key=lambda one: len(np.unique(one)), default=None)
    start = kmeans_groups(sites.mean[rest], most, seed=seed) if start is None else start[rest]
    train, test = sites[rest], sites[held_out]
    fit = _fit_groups(train, start, prior, seed)
    scores = {}
    while True:
        k = fit.components.n_components
        scores[k] = expect(test, fit.components).log_likelihood
        if k == 1:
            break
        fit = to_number(train, fit, k - 1, prior)
    best = max(scores, key=lambda number: scores[number].mean())
    for k in sorted(scores):
        loss = scores[best] - scores[k]
        if loss.mean() <= _STANDARD_ERRORS * loss.std() / np.sqrt(len(loss)):
            return k
    return best


#: Cells that a component has at least, on average, where their number is chosen.
_FEWEST_CELLS = 10


def _fit_groups(sites: Sites, groups: NDArray[np.int64], prior: ComponentPrior, seed: int) -> MixtureFit:
    groups = np.unique(groups, return_inverse=True)[1]
    start = components_of_groups(sites, groups, int(groups.max()) + 1, prior, seed=seed)
    return fit_components(sites, start, prior=prior, max_iter=_STEPS, tol=_TOLERANCE)


def _semi_supervised(
    sites: Sites, n_components: int, known: NDArray[np.int64], prior: ComponentPrior, seed: int
) -> MixtureFit:
    """Components of labels from the outset, and k-means for the others, on the cells without a label."""
    groups = known.astype(np.int64)
    rest = np.setdiff1d(np.arange(n_components), groups)
    pool = np.flatnonzero(groups < 0)
    if len(rest) and len(pool) >= len(rest):
        found = kmeans_groups(sites.mean[pool], len(rest), seed=seed)
        groups = groups.copy()
        groups[pool] = rest[found]
    start: Components = components_of_groups(sites, groups, n_components, prior, seed=seed)
    return fit_components(sites, start, prior=prior, known=known)
