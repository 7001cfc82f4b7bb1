"""Draws of the counts of children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._split import concentrations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array

    from ._lattice import Lattice
    from ._split import Split


def draw_split(split: Split, lattice: Lattice, totals: Array, design: Array, random: np.random.Generator) -> Array:
    """Counts of the children, (n, c), that add up to these totals, (n,): an order of each sample, and a split for each of its steps."""
    n, c = len(totals), lattice.n_children
    share = np.broadcast_to(concentrations(split, design), (n, c))
    orders = _orders(split, lattice, n, random)
    counts, placed = np.zeros((n, c)), np.zeros((n, c))
    left, rows = np.asarray(totals, dtype=np.int64), np.arange(n)
    for position in range(c):
        child = orders[:, position]
        others = 1 - placed
        others[rows, child] = 0
        if position < c - 1:
            alpha = share[rows, child] * np.exp((split.on_child[child] * placed).sum(1))
            beta = (share * others).sum(1) * np.exp(split.rest[child] + (split.on_rest[child] * placed).sum(1))
            taken = random.binomial(left, draw_beta(alpha, beta, random))
        else:
            taken = left
        counts[rows, child] = taken
        placed[rows, child] = 1
        left = left - taken
    return counts


def _orders(split: Split, lattice: Lattice, n: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Orders of children by the Plackett–Luce law, (n, c): of log-weights plus Gumbel noise, the largest first."""
    if lattice.is_one_order:
        return np.tile(lattice.child, (n, 1))
    return np.argsort(-(split.preferences + random.gumbel(size=(n, lattice.n_children))), axis=1)


def draw_beta(alpha: Array, beta: Array, random: np.random.Generator) -> Array:
    """Beta variables; where both concentrations are so small that a draw is no number, 0 or 1."""
    found = random.beta(alpha, beta)
    ends = (random.random(found.shape) < alpha / (alpha + beta)).astype(np.float64)
    return np.where(np.isnan(found), ends, found)
