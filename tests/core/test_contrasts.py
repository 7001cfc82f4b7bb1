"""Coordinates of trees: nothing redundant, and nothing that depends on how siblings are shifted or ordered."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import multinomial, poisson

from scpln.core import Tree, TreeContrasts, helmert

EDGES = [
    ("r", "a"),
    ("r", "b"),
    ("r", "c"),
    ("a", "a1"),
    ("a", "a2"),
    ("b", "b1"),
    ("b", "b2"),
    ("b", "b3"),
    ("b3", "x"),
    ("b3", "y"),
]


@pytest.fixture
def contrasts():
    return TreeContrasts(Tree.from_edges(EDGES), ["y", "b1", "c", "a2", "x", "a1", "b2"])


def by_hand(contrasts, z):
    """Log-rates of leaves from those of the first level and any log-ratios, along the path of each."""
    tree, values = contrasts.tree, np.zeros(len(contrasts.tree))
    for node in tree.inner:
        below = tree.children[node]
        values[below] = values[node] + (log_softmax(z[below - 1]) if node else z[below - 1])
    return values[contrasts.leaves]


def test_there_are_as_many_coordinates_as_leaves(contrasts):
    assert contrasts.level_sizes == [3, 3, 1]
    assert [level.stop for level in contrasts.levels] == [3, 6, 7]
    np.testing.assert_allclose(contrasts.matrix.T @ contrasts.matrix, np.eye(7), atol=1e-12)
    basis = helmert(6)
    np.testing.assert_allclose(basis.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(basis.T @ basis, np.eye(5), atol=1e-12)


def test_log_rates_are_those_along_the_paths_whatever_siblings_are_shifted_by(contrasts):
    u = np.random.default_rng(0).standard_normal((4, 7))
    z = u @ contrasts.matrix.T
    for node in contrasts.tree.inner[1:]:
        z[:, contrasts.tree.children[node] - 1] += node  # the same for all siblings
    np.testing.assert_allclose(contrasts.log_rates(u), [by_hand(contrasts, row) for row in z], atol=1e-12)
    np.testing.assert_allclose(z @ contrasts.matrix, u, atol=1e-12)


def test_poisson_leaves_are_a_poisson_first_level_that_is_split(contrasts):
    random = np.random.default_rng(1)
    u, y = random.standard_normal(7), random.poisson(4, 7)
    nodes, tree = np.append(0, contrasts.node_counts(y[None])[0]).astype(int), contrasts.tree
    shares = np.append(0, contrasts.log_shares(u))
    split = poisson.logpmf(nodes[tree.children[0]], np.exp(u[:3])).sum()
    for node in tree.inner[1:]:
        below = tree.children[node]
        split += multinomial.logpmf(nodes[below], nodes[node], np.exp(shares[below]))
    assert split == pytest.approx(poisson.logpmf(y, np.exp(contrasts.log_rates(u))).sum())


def test_a_tree_of_leaves_alone_has_their_log_rates():
    contrasts = TreeContrasts(Tree.from_edges([("r", "a"), ("r", "b")]), ["b", "a"])
    np.testing.assert_array_equal(contrasts.log_rates(np.array([1.0, 2.0])), [2, 1])
    one = TreeContrasts(Tree.from_edges([("r", "a")]))
    np.testing.assert_array_equal(one.log_rates(np.array([[3.0]])), [[3]])


def test_only_children_and_other_leaves_are_refused():
    tree = Tree.from_edges([("r", "a"), ("r", "b"), ("b", "c")])
    with pytest.raises(ValueError, match="'b' has one child"):
        TreeContrasts(tree)
    with pytest.raises(ValueError, match="names are not the leaves"):
        TreeContrasts(tree.without_only_children(), ["a", "b"])
