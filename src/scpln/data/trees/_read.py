"""One tree from any source, its leaves the columns of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from scpln.core import Tree
from scpln.utils import warn

from ._lineages import SEPARATOR, edges_of_columns, edges_of_names
from ._newick import edges_of_nodes, parse_newick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

#: What a tree is read from; see `read_tree`.
TreeSource: TypeAlias = Any
EXAMPLES = (
    "columns of var from coarse to fine, such as tree='phylum,class', a networkx.DiGraph of edges from parent to child, Newick text or a path "
    "to such a file, an skbio.TreeNode, or, of a TreeData, a name in its vart"
)


def read_tree(adata: AnnData, tree: TreeSource = None) -> Tree:
    """Tree over the columns of a table.

    Parameters
    ----------
    adata
        Table whose ``var_names`` are leaves.
    tree
        A `Tree`; columns of ``var`` with groups from coarse to fine, in a list or as ``"phylum,class"``; a ``networkx.DiGraph`` of edges from parent to child; text in Newick format, or
        a path to a file of it; a ``skbio.TreeNode``; the name of a tree in ``vart``, of a ``TreeData``. By default the only tree in ``vart``, or the levels that
        `scpln.tl.composition` has kept, or names such as ``"a|b|c"``.

    Returns
    -------
    Tree with `Tree.leaf_names` as many as ``var_names``; siblings in their order, as far as the tree allows. Leaves that the table lacks are left
    out, with a warning, and so is every node below which there are no others.

    Raises
    ------
    ValueError
        If there is no tree, it is none (a cycle, two roots, two parents of one node, no edges, two nodes of one name), or a column of the table
        is no leaf of it.
    TypeError
        If `tree` is something else.
    """
    names = [str(name) for name in adata.var_names]
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        msg = f"Two columns of the table are named {twice!r}, so that the tree does not tell them apart. Make names unique: `adata.var_names_make_unique()`."
        raise ValueError(msg)
    if isinstance(tree, Tree):
        edges = [(tree.names[parent], name) for name, parent in zip(tree.names[1:], tree.parents[1:], strict=True)]
    else:
        edges = _edges(adata, tree, names)
    return _fitted(Tree.from_edges(edges, names), names)


def _edges(adata: AnnData, tree: TreeSource, names: Sequence[str]) -> list[tuple[str, str]]:
    vart = getattr(adata, "vart", None) or {}
    if tree is None:
        return _default(adata, vart, names)
    if isinstance(tree, str | Path):
        return _of_text(str(tree), vart, adata, names)
    if hasattr(tree, "is_directed") and hasattr(tree, "edges"):
        return _of_graph(tree)
    if hasattr(tree, "children") and hasattr(tree, "name"):
        return edges_of_nodes(tree)
    if isinstance(tree, list | tuple | pd.Index) and len(tree) and all(isinstance(key, str) for key in tree):
        return _of_columns(adata, list(tree), names)
    msg = f"tree is of type {type(tree).__name__}, but must be one of: {EXAMPLES}."
    raise TypeError(msg)


def _default(adata: AnnData, vart: Any, names: Sequence[str]) -> list[tuple[str, str]]:
    if len(vart) == 1:
        return _of_graph(next(iter(vart.values())))
    if len(vart) > 1:
        msg = f"There are {len(vart)} trees in vart. Choose one: tree={next(iter(vart))!r}."
        raise ValueError(msg)
    made_of = adata.uns.get("composition", {})
    levels = [str(key) for key in made_of.get("label_key", [])][:-1] if hasattr(made_of, "get") else []
    if levels and all(key in adata.var for key in levels):
        return _of_columns(adata, levels, names)
    if any(SEPARATOR in name for name in names):
        return edges_of_names(names)
    msg = f"There is no tree of the columns of this table. Give one (tree=): {EXAMPLES}."
    raise ValueError(msg)


def _of_text(text: str, vart: Any, adata: AnnData, names: Sequence[str]) -> list[tuple[str, str]]:
    if text in vart:
        return _of_graph(vart[text])
    columns = [text] if text in adata.var else [part.strip() for part in text.split(",")]
    if all(key in adata.var for key in columns):
        return _of_columns(adata, columns, names)
    if "(" in text:
        return parse_newick(text)
    if Path(text).is_file():
        return parse_newick(Path(text).read_text(encoding="utf-8"))
    msg = f"tree={text!r} is no column of var, no file, and no text in Newick format. Give one of: {EXAMPLES}."
    raise ValueError(msg)


def _of_graph(graph: Any) -> list[tuple[str, str]]:
    if not graph.is_directed():
        msg = "The tree is an undirected graph, whose root is not known. Give edges from parent to child: `networkx.bfs_tree(graph, root)`."
        raise ValueError(msg)
    return [(str(parent), str(child)) for parent, child in graph.edges]


def _of_columns(adata: AnnData, keys: list[str], names: Sequence[str]) -> list[tuple[str, str]]:
    missing = [key for key in keys if key not in adata.var]
    if missing:
        msg = f"tree={keys!r}, but {missing[0]!r} is no column of var. There are: {[str(key) for key in adata.var.columns]}."
        raise ValueError(msg)
    groups = [[None if pd.isna(label) else str(label) for label in adata.var[key]] for key in keys]
    return edges_of_columns(list(zip(*groups, strict=True)), names)


def _fitted(tree: Tree, names: Sequence[str]) -> Tree:
    """Without what has no column below it."""
    leaves = set(tree.leaf_names)
    for name in names:
        if name in leaves:
            continue
        if name in tree.names:
            below = tree.names[tree.children[tree.position(name)][0]]
            msg = f"The column {name!r} of the table is an inner node of the tree, above {below!r}. Counts belong to leaves: add a leaf for it, such as {name + ' (rest)'!r}, and rename the column."
        else:
            msg = f"The column {name!r} of the table is no leaf of the tree. Leave it out (`adata[:, adata.var_names != {name!r}]`), or add it to the tree."
        raise ValueError(msg)
    missing = sorted(leaves - set(names))
    if not missing:
        return tree
    warn(
        f"{len(missing)} leaves of the tree, such as {missing[0]!r}, are no columns of the table, and are left out of the tree."
    )
    known = set(names)
    kept = [False] * len(tree)
    for node in range(len(tree) - 1, -1, -1):
        kept[node] = kept[node] or tree.names[node] in known
        if kept[node] and node:
            kept[tree.parents[node]] = True
    edges = [(tree.names[tree.parents[i]], tree.names[i]) for i in range(1, len(tree)) if kept[i]]
    return Tree.from_edges(edges, names)
