"""One tree of a table's columns, from every source."""

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pytest

import scpln
from scpln.core import Tree
from scpln.data.trees import parse_newick, read_tree

NAMES = ["B", "CD4", "CD8", "Treg"]
EDGES = [("root", "B"), ("root", "T"), ("T", "CD8"), ("T", "CD4s"), ("CD4s", "CD4"), ("CD4s", "Treg")]


def table(names=NAMES):
    var = pd.DataFrame(index=names)
    if list(names) == NAMES:
        var["class"] = ["B cells", "T", "T", "T"]
        var["group"] = pd.Categorical([None, "CD4s", None, "CD4s"])
    return ad.AnnData(np.arange(3.0 * len(names)).reshape(3, -1), var=var)


class Node:
    """As skbio.TreeNode."""

    def __init__(self, name, children=()):
        self.name, self.children = name, list(children)


def shape_of(tree):
    """What a tree is, whatever its inner nodes are called: the leaves below each inner node."""
    below = tree.membership.toarray()[:, tree.inner].T > 0
    leaves = np.array(tree.leaf_names)
    return {frozenset(leaves[row]) for row in below}


SOURCES = {
    "graph": nx.DiGraph(EDGES),
    "newick": "((CD8:1,(CD4:0.5,Treg:2)0.9:1)0.9,'B':3);",
    "nodes": Node(None, [Node("B"), Node("T", [Node("CD8"), Node("x", [Node("CD4"), Node("Treg")])])]),
    "tree": Tree.from_edges(EDGES),
    "columns": ["class", "group"],
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_tree(source):
    adata = table()
    tree = read_tree(adata, SOURCES[source]).without_only_children()
    assert shape_of(tree) == {frozenset(NAMES), frozenset(NAMES[1:]), frozenset(["CD4", "Treg"])}
    assert sorted(tree.leaf_names) == NAMES
    counts = adata[:, tree.leaf_names].X
    sums = tree.sums(counts)
    np.testing.assert_array_equal(sums[:, 0], counts.sum(1))
    for node in tree.inner:
        np.testing.assert_array_equal(sums[:, node], sums[:, tree.children[node]].sum(1))
    assert Tree.from_state(tree.to_state()) == tree


def test_trees_of_tables_themselves(tmp_path):
    adata = table()
    adata.uns["composition"] = {"label_key": ["class", "group", "type"]}
    assert len(shape_of(read_tree(adata).without_only_children())) == 3
    named = table(["a|x|1", "a|x|2", "a|y", "b"])
    assert read_tree(named).names == ("root", "a", "b", "a|x", "a|y", "a|x|1", "a|x|2")
    (tmp_path / "tree.nwk").write_text("((CD4,Treg,CD8),B);\n")
    assert read_tree(adata, tmp_path / "tree.nwk").names == ("node1", "B", "node2", "CD4", "CD8", "Treg")
    adata.vart = {"taxonomy": SOURCES["graph"]}
    assert read_tree(adata) == read_tree(adata, "taxonomy") == read_tree(adata, SOURCES["graph"])
    adata.vart["other"] = SOURCES["graph"]
    with pytest.raises(ValueError, match="There are 2 trees in vart"):
        read_tree(adata)


def test_composition_keeps_the_tree():
    cells = scpln.datasets.simulate(n_obs=200, n_vars=5, n_latent=1)
    cells.obs["donor"] = np.resize(["d1", "d2", "d3"], 200)
    fine = np.random.default_rng(0).choice(NAMES, 200)
    cells.obs["type"], cells.obs["class"] = fine, np.where(fine == "B", "B", "T")
    adata = scpln.tl.composition(cells, "donor", ["class", "type"])
    tree = read_tree(adata)
    assert tree.names == ("root", "B", "T", "CD4", "CD8", "Treg")


def test_one_name_in_two_places_is_told_apart_by_its_path():
    adata = table(["s1", "s2", "s3", "s4"])
    adata.var["phylum"], adata.var["genus"] = ["P", "P", "Q", "Q"], ["u", "u", "u", "s4"]
    tree = read_tree(adata, ["phylum", "genus"])
    assert set(tree.names) == {"root", "P", "Q", "P|u", "Q|u", *adata.var_names}
    adata.var["phylum"] = ["s1", "s1", "Q", "Q"]
    assert "s1 (all)" in read_tree(adata, "phylum").names


def test_only_children_and_absent_leaves_go():
    tree = Tree.from_edges([("r", "a"), ("a", "b"), ("b", "c"), ("b", "d")])
    assert tree.without_only_children().names == ("r", "c", "d")
    tree = Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c"), ("c", "d"), ("c", "e"), ("a", "f")])
    assert tree.without_only_children() == Tree.from_edges([("r", "f"), ("r", "c"), ("c", "d"), ("c", "e")], "fde")
    assert Tree.from_edges([("r", "a"), ("a", "b")]).without_only_children().names == ("r", "b")
    with pytest.warns(UserWarning, match="2 leaves of the tree, such as 'X'"):
        found = read_tree(table(), nx.DiGraph([*EDGES, ("T", "X"), ("root", "Y"), ("Y", "Z")]))
    assert found == read_tree(table(), nx.DiGraph(EDGES))


def test_newick_in_all_its_forms():
    assert parse_newick("(A,B,(C,D)E)F;") == parse_newick(" ( A , B , ( C , D ) E ) F ; ")
    assert set(parse_newick("(A:0.1[x],B:2e-3,(C:3,D:4)E:5)F;")) == set(parse_newick("(A,B,(C,D)E)F"))
    assert ("it's", "b c") in parse_newick("('b c',D)'it''s';")
    deep = "(" * 5000 + "a" + ",b)" * 1 + ")" * 4999 + ";"
    assert len(parse_newick(deep)) == 5001


BAD = {
    "cycle": (nx.DiGraph([("r", "B"), ("a", "b"), ("b", "a")]), "a cycle"),
    "circle": (nx.DiGraph([("a", "b"), ("b", "a")]), "a cycle, through"),
    "two roots": (nx.DiGraph([("r", "B"), ("s", "CD4")]), "2 roots, 'r', 's'. Join them"),
    "two parents": (nx.DiGraph([*EDGES, ("root", "CD4")]), "'CD4' has two parents"),
    "no edges": (nx.DiGraph(), "has no edges"),
    "undirected": (nx.Graph(EDGES), "undirected graph"),
    "unknown leaf": (nx.DiGraph(EDGES[:-1]), "'Treg' of the table is no leaf of the tree"),
    "inner": (nx.DiGraph([*EDGES, ("Treg", "x")]), "'Treg' of the table is an inner node"),
    "parentheses": ("((B,CD4),CD8", "is not one tree in Newick format"),
    "parenthesis": ("(B,CD4)),CD8;", "is not one tree in Newick format"),
    "one name": ("(B,B,CD4);", "Two leaves of the tree are named 'B'"),
    "no name": ("(B,,CD4);", "A leaf of the tree has no name"),
    "one without a name": ("((B,)x,CD4)r;", "A leaf of the tree has no name"),
    "two trees": ("(B,CD4)x;(CD8,Treg)y;", "is not one tree in Newick format"),
    "no column": (["phylum"], "'phylum' is no column of var"),
    "nothing": ("phylum", "is no column of var, no file"),
    "none": (None, "There is no tree of the columns"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_tree_is_said(name):
    tree, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        read_tree(table(), tree)


def test_other_errors():
    with pytest.raises(TypeError, match="tree is of type int"):
        read_tree(table(), 3)
    with pytest.warns(UserWarning, match="not unique"), pytest.raises(ValueError, match="Two columns of the table"):
        read_tree(ad.AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["a", "a"])), ["x"])
    with pytest.raises(ValueError, match="is the name of more than one node"):
        Tree(("a", "a"), (-1, 0))
    with pytest.raises(ValueError, match="expected one for each"):
        Tree(("a", "b"), (-1,))
    with pytest.raises(ValueError, match="parents must be -1 for the first node"):
        Tree(("a", "b"), (-1, 1))
