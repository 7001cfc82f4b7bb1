"""Trees from what is said of each leaf: its groups from coarse to fine, in columns or in its name."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Between the levels in the name of a leaf.
SEPARATOR = "|"
#: Name of the node above the coarsest groups, where these are several.
ROOT = "root"


def edges_of_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Edges of leaves named ``"a|b|c"``; inner nodes are named ``"a"`` and ``"a|b"``."""
    lineages = [name.split(SEPARATOR)[:-1] for name in names]
    paths = [[SEPARATOR.join(lineage[: i + 1]) for i in range(len(lineage))] for lineage in lineages]
    return _edges(paths, names)


def edges_of_columns(groups: Sequence[Sequence[str | None]], names: Sequence[str]) -> list[tuple[str, str]]:
    """Edges from the groups of each leaf, from coarse to fine; a level that a leaf lacks is None.

    A group has its label as its name, where that is not the name of a leaf or of a group elsewhere in the tree; or else its path,
    such as ``"Firmicutes|uncultured"``.
    """
    lineages = [tuple(label for label in row if label is not None) for row in groups]
    paths_of: dict[str, set[tuple[str, ...]]] = {}
    members: dict[tuple[str, ...], list[str]] = {}
    for lineage, leaf in zip(lineages, names, strict=True):
        for i, label in enumerate(lineage):
            paths_of.setdefault(label, set()).add(lineage[: i + 1])
            members.setdefault(lineage[: i + 1], []).append(leaf)
    leaves = set(names)
    taken = leaves | {label for label, paths in paths_of.items() if len(paths) == 1}

    def name(path: tuple[str, ...]) -> str:
        label = path[-1]
        if label not in leaves and len(paths_of[label]) == 1:
            return label
        found = SEPARATOR.join(path)
        return f"{found} (all)" if found in taken else found

    # A group of one leaf that has the leaf's name is the leaf.
    named = [
        [name(lineage[: i + 1]) for i in range(len(lineage)) if not _is_leaf(lineage[: i + 1], members)]
        for lineage in lineages
    ]
    return _edges(named, names)


def _is_leaf(path: tuple[str, ...], members: dict[tuple[str, ...], list[str]]) -> bool:
    return members[path] == [path[-1]]


def _edges(paths: Sequence[Sequence[str]], names: Sequence[str]) -> list[tuple[str, str]]:
    """Along each path to its leaf, below one root."""
    firsts = {path[0] if path else name for path, name in zip(paths, names, strict=True)}
    taken = {node for path in paths for node in path} | set(names)
    root = ROOT
    while root in taken:
        root += "_"
    above = [] if len(firsts) == 1 and all(paths) else [root]
    chains = [[*above, *path, name] for path, name in zip(paths, names, strict=True)]
    return list(dict.fromkeys(edge for chain in chains for edge in pairwise(chain)))
