"""Sets of siblings that have been placed, and the steps between them: dynamic programming over orders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scpln.core import Array

#: Most children whose orders are summed over: 2¹² sets and 24,576 steps.
MOST_CHILDREN = 12


@dataclass(frozen=True)
class Level:
    """Steps from sets of one size to those with one sibling more, in the order of the sets that they lead to.

    Every set of this size is left in as many ways as the others, and so it is with those that are reached.
    """

    steps: slice
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    by_before: NDArray[np.intp]


@dataclass(frozen=True)
class Lattice:
    r"""Sets S of siblings that may have been placed, and the steps (c, S) in which child c follows them.

    Over all subsets of c siblings it has :math:`c \, 2^{c - 1}` steps, and paths from the empty set to that of all are the c! orders. Of one known order
    it is a chain of c steps.

    Parameters
    ----------
    child
        The child that is placed in each step, (T,).
    placed
        Which siblings were placed before, (T, c), 0 or 1.
    levels
        Steps by the size of the set before.
    """

    child: NDArray[np.intp]
    placed: Array
    levels: tuple[Level, ...]

    @classmethod
    @cache
    def of_all_orders(cls, n_children: int) -> Lattice:
        """All subsets of siblings."""
        return cls._of([list(combinations(range(n_children), size)) for size in range(n_children + 1)], n_children)

    @classmethod
    def of_order(cls, order: Sequence[int]) -> Lattice:
        """The chain of one order, given as positions of children."""
        return cls._of([[tuple(sorted(order[:size]))] for size in range(len(order) + 1)], len(order))

    @classmethod
    def _of(cls, sets: list[list[tuple[int, ...]]], n_children: int) -> Lattice:
        children: list[int] = []
        placed: list[tuple[int, ...]] = []
        levels = []
        for smaller, larger in pairwise(sets):
            place = {each: i for i, each in enumerate(smaller)}
            before, after, start = [], [], len(children)
            for i, each in enumerate(larger):
                for child in each:
                    rest = tuple(other for other in each if other != child)
                    if rest in place:
                        before.append(place[rest])
                        after.append(i)
                        children.append(child)
                        placed.append(rest)
            steps = slice(start, len(children))
            by_before = np.argsort(before, kind="stable")
            levels.append(Level(steps, np.array(before), np.array(after), by_before))
        indicators = np.zeros((len(children), n_children))
        for step, members in enumerate(placed):
            indicators[step, list(members)] = 1
        return cls(np.array(children, dtype=np.intp), indicators, tuple(levels))

    @property
    def n_children(self) -> int:
        """Number of siblings c."""
        return int(self.placed.shape[1])

    @property
    def is_one_order(self) -> bool:
        """Whether there is one order, which is known."""
        return len(self.child) == self.n_children

    @cached_property
    def chosen(self) -> Array:
        """Indicators of the child of each step, (T, c)."""
        return np.eye(self.n_children)[self.child]

    @cached_property
    def others(self) -> Array:
        """Which siblings are left after each step, (T, c), 0 or 1."""
        return 1 - self.placed - self.chosen

    def forward(self, log_steps: Array) -> list[Array]:
        """Log-sum over the ways to each set, by its size: arrays (n, sets), of logarithms of steps (n, T)."""
        states = [np.zeros((len(log_steps), 1))]
        for level in self.levels:
            arriving = states[-1][:, level.before] + log_steps[:, level.steps]
            states.append(_log_sums(arriving, int(level.after[-1]) + 1))
        return states

    def backward(self, log_steps: Array) -> list[Array]:
        """Log-sum over the ways from each set to that of all, by its size."""
        states = [np.zeros((len(log_steps), 1))]
        for level in reversed(self.levels):
            leaving = (states[-1][:, level.after] + log_steps[:, level.steps])[:, level.by_before]
            states.append(_log_sums(leaving, int(level.before.max()) + 1))
        return states[::-1]

    def step_probabilities(self, log_steps: Array) -> tuple[Array, Array]:
        """Log-sum over all orders, (n,), and the probability that an order has each step, (n, T)."""
        there, onwards = self.forward(log_steps), self.backward(log_steps)
        total = there[-1]
        found = np.empty_like(log_steps)
        for size, level in enumerate(self.levels):
            ways = there[size][:, level.before] + onwards[size + 1][:, level.after]
            found[:, level.steps] = np.exp(ways + log_steps[:, level.steps] - total)
        return total[:, 0], found


def _log_sums(values: Array, n_states: int) -> Array:
    """Of equally many neighbours for each state."""
    parts = values.reshape(len(values), n_states, -1)
    most = parts.max(-1, keepdims=True)
    return (np.log(np.exp(parts - most).sum(-1)) + most[..., 0]).reshape(len(values), n_states)
