"""Posteriors of samples under given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import threads
from scpln.inference.genespace._infer import MAX_STEPS, TOLERANCE
from scpln.inference.genespace._observations import Observations
from scpln.train import torch_threads

from ._posteriors import TreePosteriors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData, TreeContrasts
    from scpln.module.covariances import Covariance


#: Samples whose covariances are looked at together.
BLOCK = 256


@dataclass(frozen=True)
class TreeStates:
    """Posteriors of the coordinates u of samples.

    Attributes
    ----------
    mean, covariance
        Means (n, p), which include Bx, and covariances V (n, p, p).
    elbo
        Bound of each sample, nats, (n,).
    stuck
        Positions of samples whose posteriors did not converge.
    """

    mean: Array
    covariance: Array
    elbo: Array
    stuck: NDArray[np.intp]


def infer_pln_tree(
    data: CountData,
    contrasts: TreeContrasts,
    coefficients: Array,
    covariance: Covariance,
    *,
    n_threads: int | None = None,
) -> TreeStates:
    r"""Optimal Gaussian posteriors of samples on a tree, with B and Σ fixed.

    Parameters
    ----------
    data
        Counts of the leaves, one offset of each sample, and design.
    contrasts
        The tree, with leaves in the order of the columns of the counts.
    coefficients
        B (p, d).
    covariance
        Σ of the coordinates.
    n_threads
        Threads; all available ones when None.

    Raises
    ------
    ValueError
        Sizes do not match, or offsets are not those of samples or not finite.

    Examples
    --------
    Four of a hundred counts below one node:

    >>> import numpy as np
    >>> from scpln.core import CountData, Tree, TreeContrasts
    >>> from scpln.inference.tree import infer_pln_tree
    >>> from scpln.module.covariances import Fixed
    >>> contrasts = TreeContrasts(Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c"), ("b", "d")]), ["a", "c", "d"])
    >>> data = CountData(np.array([[50, 4, 96]]), np.zeros(1), np.ones((1, 1)))
    >>> found = infer_pln_tree(data, contrasts, np.zeros((3, 1)), Fixed(3, 10 * np.eye(3)))
    >>> contrasts.log_rates(found.mean).round(1), np.log([50, 4, 96]).round(1)
    (array([[3.9, 1.3, 4.6]]), array([3.9, 1.4, 4.6]))
    """
    posteriors = TreePosteriors(observe(data, contrasts, covariance), contrasts)
    with threads(n_threads) as pool, torch_threads(1):
        posteriors.settle(np.asarray(coefficients, np.float64), covariance, pool, max_steps=MAX_STEPS, tol=TOLERANCE)
        return states_of(posteriors)


def observe(data: CountData, contrasts: TreeContrasts, covariance: Covariance) -> Observations:
    """The counts, with one offset of each sample."""
    if data.n_genes != contrasts.n_leaves:
        msg = f"The counts have {data.n_genes} columns, but the tree has {contrasts.n_leaves} leaves."
        raise ValueError(msg)
    if data.entries is not None or data.groups is not None:
        msg = "Counts on a tree take one offset of each sample, of which all entries were observed."
        raise ValueError(msg)
    observations = Observations.of(data)
    observations.check(covariance)
    return observations


def states_of(posteriors: TreePosteriors) -> TreeStates:
    """What is known of the samples."""
    return TreeStates(posteriors.mean, posteriors.covariance(), posteriors.bound, posteriors.stuck)


def bound_pln_tree(
    data: CountData, contrasts: TreeContrasts, coefficients: Array, covariance: Covariance, mean: Array, spread: Array
) -> Array:
    r"""Bounds of samples on a tree under given Gaussians :math:`N(m_i, V_i)`, nats, (n,): no more than those of the optimal ones.

    Parameters
    ----------
    data, contrasts, coefficients, covariance
        As in `infer_pln_tree`.
    mean, spread
        Means m of the coordinates (n, p), which include Bx, and covariances V, (n, p, p).

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.core import CountData, Tree, TreeContrasts
    >>> from scpln.inference.tree import bound_pln_tree, infer_pln_tree
    >>> from scpln.module.covariances import Fixed
    >>> contrasts = TreeContrasts(Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c"), ("b", "d")]), ["a", "c", "d"])
    >>> model = (
    ...     CountData(np.array([[50, 4, 96]]), np.zeros(1), np.ones((1, 1))),
    ...     contrasts,
    ...     np.zeros((3, 1)),
    ...     Fixed(3, np.eye(3)),
    ... )
    >>> found = infer_pln_tree(*model)
    >>> bool(abs(bound_pln_tree(*model, found.mean, found.covariance) - found.elbo) < 1e-8)
    True
    >>> bool(bound_pln_tree(*model, found.mean + 0.1, found.covariance) < found.elbo)
    True
    """
    posteriors = TreePosteriors(observe(data, contrasts, covariance), contrasts)
    layout, values = posteriors.layout, np.empty(len(mean))
    residual = mean - data.design @ np.asarray(coefficients, np.float64).T
    for start in range(0, len(mean), BLOCK):
        cells = slice(start, start + BLOCK)
        found = posteriors.terms.moments(cells, mean[cells], layout.packed(spread[cells]))
        moment = spread[cells] + residual[cells, :, None] * residual[cells, None, :]
        fit = np.einsum("nij,ji->n", moment, covariance.precision) - moment.shape[1]
        values[cells] = found.value - 0.5 * (fit + covariance.log_det - np.linalg.slogdet(spread[cells])[1])
    return values
