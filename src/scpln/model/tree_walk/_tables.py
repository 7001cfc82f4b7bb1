"""Tables of what walks say of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from scpln.core import Array, Tree


def proportions(tree: Tree, shares: Array) -> Array:
    """Share of each node of the total, (n, V), from those of their parents: products along the way from the root."""
    found = shares.copy()
    for node, parent in enumerate(tree.parents[1:], 1):
        found[:, node] *= found[:, parent]
    return found


def centred_log_ratios(tree: Tree, shares: Array) -> Array:
    """Logarithms of shares less their mean over siblings, (n, V); those of siblings add up to 0, and the root has 0."""
    found = np.log(shares)
    for v in tree.inner:
        children = tree.children[v]
        own = found[:, children]
        known = np.isfinite(own)
        means = np.where(known, own, 0).sum(1) / np.maximum(known.sum(1), 1)
        found[:, children] = own - means[:, None]
    return found


def positions(tree: Tree, node: int, values: Array, names: pd.Index) -> pd.DataFrame:
    """Probabilities (n, child, position) as a table with columns for each child and position, counted from 1."""
    children = [tree.names[child] for child in tree.children[node]]
    columns = pd.MultiIndex.from_product([children, range(1, len(children) + 1)], names=["child", "position"])
    return pd.DataFrame(values.reshape(len(names), -1), index=names, columns=columns)
