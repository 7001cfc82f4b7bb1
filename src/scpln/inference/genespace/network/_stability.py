"""How far networks of subsamples agree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ._path import solve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ._path import Network
    from ._penalized import PenalizedProfile

#: Subsamples; up to so many cells they are this share of all, and beyond 10 √n.
N_SUBSAMPLES, FEW_CELLS, SHARE = 20, 144, 0.8
#: β, the largest share of pairs of genes in which two subsamples may differ.
INSTABILITY = 0.05


def subsamples(n_cells: int, seed: int) -> list[NDArray[np.intp]]:
    """Positions of cells of each subsample, drawn without replacement.

    Examples
    --------
    >>> [len(subsamples(n, seed=0)[0]) for n in (100, 400)]
    [80, 200]
    """
    size = int(SHARE * n_cells) if n_cells <= FEW_CELLS else int(10 * np.sqrt(n_cells))
    random = np.random.default_rng(seed)
    return [np.sort(random.choice(n_cells, max(size, 1), replace=False)) for _ in range(N_SUBSAMPLES)]


def with_stability(
    networks: list[Network], profiles: list[PenalizedProfile], max_iter: int, tol: float
) -> Iterator[Network]:
    r"""The networks of a path, from the largest penalty down, with how far those of subsamples agree at the same penalty.

    With the share θ of subsamples that have an edge, two of them differ in :math:`D = \overline{2 \theta (1 - \theta)}` of the pairs of genes [1]_; stability
    is 1 − 2 D, which is 1 if all agree, and 0 if they are coin flips. Where D has passed β there is no more to learn, and the others are left out.

    .. [1] Liu, Roeder and Wasserman (2010), Stability approach to regularization selection (StARS) for high dimensional graphical models.
       NeurIPS 23.
    """
    for network in networks:
        if network.diverged:
            yield network
            continue
        shares = _shares(network, profiles, max_iter, tol)
        unstable = float((2 * shares * (1 - shares)).mean()) if len(shares) else 0.0
        yield replace(network, stability=1 - 2 * unstable)
        if unstable > INSTABILITY:
            return


def _shares(network: Network, profiles: list[PenalizedProfile], max_iter: int, tol: float) -> NDArray[np.float64]:
    """Share of subsamples that have an edge, of each pair of genes."""
    p = profiles[0].covariance.n_genes
    found, counts = 0, np.zeros((p, p))
    for profile in profiles:
        profile.return_to(network.place)
        if not solve(profile, network.penalty, max_iter, tol).diverged:
            found += 1
            counts[profile.covariance.edges] += 1
    return counts[np.triu_indices(p, 1)] / max(found, 1)
