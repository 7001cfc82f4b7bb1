"""Local walks: at each node an order of its children, which is summed over exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._draw import draw_split
from ._fit_node import FittedNode, Precisions, fit_node
from ._lattice import MOST_CHILDREN

if TYPE_CHECKING:
    from collections.abc import Callable

    from scpln.core import Array, Tree

    from ._data import TreeCounts
    from ._node import Node


@dataclass(frozen=True)
class LocalWalk:
    r"""Splits of all nodes of a tree, each with orders of its own.

    .. math:: \log p(y \mid N) = \sum_v \log \sum_\sigma p(\sigma) \prod_k \text{BetaBinomial}(n_{\sigma_k} \mid N_v - \sum_{j < k} n_{\sigma_j})

    Parameters
    ----------
    tree
        Without only children.
    nodes
        Of each inner node, by its position in the tree.
    """

    tree: Tree
    nodes: dict[int, Node]

    def node_log_likelihoods(self, data: TreeCounts) -> Array:
        """Log-probability of how each inner node is split, given its count, (n, inner nodes)."""
        return np.column_stack([node.log_likelihood(data.of_node(v)) for v, node in self.nodes.items()])

    def log_likelihood(self, data: TreeCounts) -> Array:
        """Log-probability of the counts of each sample given their sum, (n,)."""
        return np.asarray(self.node_log_likelihoods(data).sum(1))

    def elbo(self, data: TreeCounts) -> Array:
        """The same: the sum over orders is exact, so that there is no gap."""
        return self.log_likelihood(data)

    def iw_bound(self, data: TreeCounts, n_samples: int) -> Array:
        """The same, however many draws."""
        return self.log_likelihood(data)

    def mean_shares(self, data: TreeCounts) -> Array:
        """Posterior mean of the share that each node has of its parent, (n, V); 1 for the root, NaN where a sample lacks the node."""
        found = np.ones(data.counts.shape)
        for v, node in self.nodes.items():
            found[:, self.tree.children[v]] = node.mean_shares(data.of_node(v))
        return found

    def position_probabilities(self, data: TreeCounts, node: int) -> Array:
        """Posterior probability of the positions in which the children of a node are placed, (n, child, position)."""
        return self.nodes[node].position_probabilities(data.of_node(node))

    def draw(self, totals: Array, design: Array, random: np.random.Generator) -> Array:
        """Counts of all nodes, (n, V), of samples with these totals, (n,)."""
        counts = np.zeros((len(totals), len(self.tree)))
        counts[:, 0] = totals
        for v, node in self.nodes.items():
            children = self.tree.children[v]
            lattice = node.lattice(np.arange(len(children)))
            counts[:, children] = draw_split(node.split, lattice, counts[:, v], design, random)
        return counts


@dataclass(frozen=True)
class LocalFit:
    """Fitted local walks.

    Attributes
    ----------
    walk
        With the best parameters.
    history
        Log-likelihood plus log-prior of all samples after each iteration of all nodes: it never falls.
    converged, reason
        Whether all nodes converged, and why training ended.
    """

    walk: LocalWalk
    history: list[float]
    converged: bool
    reason: str


def fit_local(
    data: TreeCounts,
    *,
    exchangeable: bool = False,
    max_children: int = MOST_CHILDREN,
    precisions: Precisions | None = None,
    max_iter: int = 1000,
    tol: float = 1e-5,
    on_iteration: Callable[[int, float], None] | None = None,
) -> LocalFit:
    """Fit the split of each node, one after the other: given the counts of the nodes, they have nothing to do with each other.

    Parameters
    ----------
    data
        Counts.
    exchangeable
        Whether splits are Dirichlet-multinomial, so that there is no order: the Dirichlet-tree multinomial model.
    max_children
        Most children whose orders are summed over. More are placed in one order, of their sums of counts over all samples, the largest first.
    precisions
        Of the priors.
    max_iter, tol
        Most iterations of each fit of a node, and the gain in nats per sample below which it has converged.
    on_iteration
        Called after each node with how many there were, and the objective per sample so far.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.core import Tree
    >>> from scpln.inference.treewalk import TreeCounts, fit_local
    >>> tree = Tree.from_edges([("root", "B"), ("root", "T"), ("T", "CD4"), ("T", "CD8")])
    >>> leaves = np.random.default_rng(0).multinomial(100, [0.2, 0.3, 0.5], size=50)
    >>> fit = fit_local(TreeCounts.of(tree, leaves, np.ones((50, 1))))
    >>> fit.converged, bool((np.diff(fit.history) >= 0).all())
    (True, True)
    """
    fits: dict[int, FittedNode] = {}
    precisions = Precisions() if precisions is None else precisions
    for v in data.tree.inner.tolist():
        own = data.of_node(v)
        is_interrupted = any(fit.interrupted for fit in fits.values())
        fits[v] = fit_node(
            own,
            exchangeable=exchangeable,
            order=_largest_first(own.counts, [data.tree.names[child] for child in data.tree.children[v]]),
            precisions=precisions,
            max_iter=0 if is_interrupted else max_iter,
            tol=tol,
            max_children=max_children,
        )
        if on_iteration is not None:
            on_iteration(len(fits), sum(fit.history[-1] for fit in fits.values()) / len(data))
    walk = LocalWalk(data.tree, {v: fit.node for v, fit in fits.items()})
    converged = all(fit.converged for fit in fits.values())
    return LocalFit(walk, _joint_history(list(fits.values())), converged, _reason(fits, converged, max_iter, tol))


def _largest_first(counts: Array, names: list[str]) -> tuple[int, ...]:
    """Positions of children, the most counted first; names decide between equals, so that the order of columns does not."""
    sums = counts.sum(0)
    return tuple(sorted(range(len(names)), key=lambda child: (-sums[child], names[child])))


def _joint_history(fits: list[FittedNode]) -> list[float]:
    """Sum over nodes after each iteration; a node that has ended stays where it is."""
    length = max(len(fit.history) for fit in fits)
    each = [np.pad(fit.history, (0, length - len(fit.history)), mode="edge") for fit in fits]
    return [float(value) for value in np.sum(each, axis=0)]


def _reason(fits: dict[int, FittedNode], converged: bool, max_iter: int, tol: float) -> str:
    done = sum(fit.converged for fit in fits.values())
    if any(fit.interrupted for fit in fits.values()):
        return f"interrupted after {done} of {len(fits)} nodes; what was reached is kept"
    if converged:
        return f"converged: gains below {tol:g} nats per cell at all {len(fits)} nodes"
    return f"{max_iter} iterations, the maximum, at {len(fits) - done} of {len(fits)} nodes"
