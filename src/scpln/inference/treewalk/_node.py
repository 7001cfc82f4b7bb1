"""The split of one node of a tree, in samples some of which may lack some of its children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._lattice import Lattice
from ._split import log_likelihood, mean_shares, position_probabilities, value_and_gradient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scpln.core import Array

    from ._split import Split


@dataclass(frozen=True)
class NodeCounts:
    """Counts of the children of a node in all samples.

    Parameters
    ----------
    counts
        (n, c).
    design
        Columns of the design, (n, d).
    present
        Which children each sample has, (n, c); all if None. One that it lacks has no part in the split, and count 0.
    """

    counts: Array
    design: Array
    present: NDArray[np.bool_] | None = None

    def parts(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Samples with the same children, and which these are; not samples without two."""
        n, c = self.counts.shape
        if self.present is None:
            yield np.arange(n), np.arange(c)
            return
        patterns, which = np.unique(self.present, axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            if pattern.sum() > 1:
                yield np.flatnonzero(which.ravel() == i), np.flatnonzero(pattern)


@dataclass(frozen=True)
class Node:
    """A node whose children are placed in all orders, or in one that is known.

    Parameters
    ----------
    split
        Parameters.
    order
        Positions of children in the known order; None where all orders are summed over.
    """

    split: Split
    order: tuple[int, ...] | None = None

    def lattice(self, present: NDArray[np.intp]) -> Lattice:
        """Sets of the children that are present."""
        if self.order is None:
            return Lattice.of_all_orders(len(present))
        place = {child: i for i, child in enumerate(present.tolist())}
        return Lattice.of_order([place[child] for child in self.order if child in place])

    def log_likelihood(self, data: NodeCounts) -> Array:
        """Log-probability of the counts of the children given their sum, (n,); 0 for samples without two children."""
        found = np.zeros(len(data.counts))
        self._fill(found, data, log_likelihood)
        return found

    def mean_shares(self, data: NodeCounts) -> Array:
        """Posterior mean of the children's shares, (n, c); NaN where a sample lacks the child, 1 of an only one."""
        found = np.full(data.counts.shape, np.nan)
        if data.present is not None:
            found[data.present & (data.present.sum(1) == 1)[:, None]] = 1
        self._fill(found, data, mean_shares)
        return found

    def position_probabilities(self, data: NodeCounts) -> Array:
        """Posterior probability that each child is placed in each position, (n, c, c); NaN where a sample lacks the child."""
        n, c = data.counts.shape
        found = np.full((n, c, c), np.nan)
        for rows, present in data.parts():
            values = position_probabilities(
                self.split.of_children(present),
                self.lattice(present),
                data.counts[np.ix_(rows, present)],
                data.design[rows],
            )
            found[np.ix_(rows, present)] = 0
            found[np.ix_(rows, present, np.arange(len(present)))] = values
        return found

    def value_and_gradient(self, data: NodeCounts) -> tuple[float, Array]:
        """Log-likelihood of all samples, and its gradient as a row of parameters."""
        total, gradient = 0.0, self.split.from_vector(np.zeros(self.split.to_vector().size))
        for rows, present in data.parts():
            counts = data.counts[np.ix_(rows, present)]
            value, slope = value_and_gradient(
                self.split.of_children(present), self.lattice(present), counts, data.design[rows]
            )
            total, pair = total + value, np.ix_(present, present)
            gradient.coefficients[:, present] += slope.coefficients
            gradient.preferences[present] += slope.preferences
            gradient.rest[present] += slope.rest
            gradient.on_child[pair] += slope.on_child
            gradient.on_rest[pair] += slope.on_rest
        return total, gradient.to_vector()

    def _fill(self, into: Array, data: NodeCounts, function: Callable[[Split, Lattice, Array, Array], Array]) -> None:
        """Values of a function of the samples, each part with the children that it has."""
        for rows, present in data.parts():
            values = function(
                self.split.of_children(present),
                self.lattice(present),
                data.counts[np.ix_(rows, present)],
                data.design[rows],
            )
            into[rows if values.ndim == 1 else np.ix_(rows, present)] = values
