"""Local walks on trees: dynamic programming against enumeration, gradients, and the laws of the Dirichlet tree."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import betabinom, dirichlet_multinomial

from scpln.core import Tree
from scpln.inference.treewalk import LocalWalk, Node, NodeCounts, Precisions, Split, TreeCounts, fit_local

RANDOM = np.random.default_rng


def random_split(c, seed=0, d=2):
    random = RANDOM(seed)
    off = 1 - np.eye(c)
    return Split(
        random.normal(size=(d, c)),
        random.normal(size=c),
        random.normal(size=c),
        random.normal(size=(c, c)) * off,
        random.normal(size=(c, c)) * off,
    )


def make(c, n=6, seed=0):
    random = RANDOM(seed)
    design = np.column_stack([np.ones(n), random.normal(size=n)])
    return NodeCounts(random.poisson(3, size=(n, c)).astype(float), design)


def paths(split, counts, x):
    """Each order with its probability together with the counts, and the mean shares given both: by hand, from scipy's laws."""
    c = len(counts)
    share = np.exp(x @ split.coefficients)
    for order in permutations(range(c)):
        p, left, kept, means = 1.0, counts.sum(), 1.0, np.zeros(c)
        for position, child in enumerate(order):
            before, after = list(order[:position]), list(order[position + 1 :])
            weights = np.exp(split.preferences)
            p *= weights[child] / weights[[child, *after]].sum()
            if not after:
                means[child] = kept
                break
            alpha = share[child] * np.exp(split.on_child[child, before].sum())
            beta = share[after].sum() * np.exp(split.rest[child] + split.on_rest[child, before].sum())
            p *= betabinom.pmf(counts[child], left, alpha, beta)
            mean = (counts[child] + alpha) / (left + alpha + beta)
            means[child], kept, left = kept * mean, kept * (1 - mean), left - counts[child]
        yield order, p, means


@pytest.mark.parametrize("c", [2, 3, 4, 5, 6])
def test_dynamic_programming_is_enumeration(c):
    data, node = make(c, n=3), Node(random_split(c))
    found, shares = node.log_likelihood(data), node.mean_shares(data)
    positions = node.position_probabilities(data)
    for i, (counts, x) in enumerate(zip(data.counts, data.design, strict=True)):
        every = list(paths(node.split, counts, x))
        p = np.array([each for _, each, _ in every])
        assert found[i] == pytest.approx(np.log(p.sum()), abs=1e-10)
        np.testing.assert_allclose(shares[i], p @ [means for *_, means in every] / p.sum(), atol=1e-10)
        where = np.zeros((c, c))
        for order, each, _ in every:
            where[list(order), range(c)] += each / p.sum()
        np.testing.assert_allclose(positions[i], where, atol=1e-10)


@pytest.mark.parametrize("order", [None, (2, 0, 3, 1)])
def test_gradients_are_those_of_differences(order):
    data, split = make(4), random_split(4)
    present = np.ones((6, 4), bool)
    present[0, 1] = present[1, :3] = False
    data = NodeCounts(np.where(present, data.counts, 0), data.design, present)
    _, gradient = Node(split, order).value_and_gradient(data)
    point = split.to_vector()
    for i in range(len(point)):
        step = np.zeros(len(point))
        step[i] = 1e-5
        ends = [Node(split.from_vector(point + sign * step), order).log_likelihood(data).sum() for sign in (1, -1)]
        diagonal = i >= 8 + 4 + 4 and (i - 16) % 16 % 5 == 0  # what a child does to itself: nothing
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6) or diagonal


@pytest.mark.parametrize("c", [2, 3, 5])
@pytest.mark.parametrize("one_order", [True, False])
def test_exchangeable_splits_are_dirichlet_multinomial_whatever_the_policy(c, one_order):
    data = make(c)
    split = random_split(c, d=1)
    exchangeable = Split.exchangeable(split.coefficients)
    node = Node(
        Split(**{**vars(exchangeable), "preferences": 3 * split.preferences}),
        tuple(range(c))[::-1] if one_order else None,
    )
    found = node.log_likelihood(NodeCounts(data.counts, data.design[:, :1]))
    alpha = np.exp(split.coefficients[0])
    expected = [dirichlet_multinomial.logpmf(row.astype(int), alpha, int(row.sum())) for row in data.counts]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def small_tree():
    edges = [
        ("root", "A"),
        ("root", "B"),
        ("root", "C"),
        ("A", "a1"),
        ("A", "a2"),
        ("B", "b1"),
        ("B", "b2"),
        ("B", "b3"),
    ]
    return Tree.from_edges(edges)


def random_walk(tree, seed=0, d=1):
    return LocalWalk(tree, {int(v): Node(random_split(len(tree.children[v]), seed + v, d)) for v in tree.inner})


def test_probabilities_of_all_counts_add_up_to_one():
    tree = small_tree()
    every = np.array([row for row in product(range(5), repeat=len(tree.leaves)) if sum(row) == 4])
    data = TreeCounts.of(tree, every, np.ones((len(every), 1)))
    assert np.exp(random_walk(tree).log_likelihood(data)).sum() == pytest.approx(1, abs=1e-10)


def test_dirichlet_tree_is_the_product_of_its_nodes():
    tree, random = small_tree(), RANDOM(0)
    data = TreeCounts.of(tree, random.poisson(4, (5, 6)), np.ones((5, 1)))
    nodes = {int(v): Node(Split.exchangeable(random.normal(size=(1, len(tree.children[v]))))) for v in tree.inner}
    expected = np.zeros(5)
    for v, node in nodes.items():
        alpha = np.exp(node.split.coefficients[0])
        own = data.of_node(v).counts.astype(int)
        expected += [dirichlet_multinomial.logpmf(row, alpha, int(row.sum())) for row in own]
    np.testing.assert_allclose(LocalWalk(tree, nodes).log_likelihood(data), expected, atol=1e-10)


def test_what_a_sample_lacks_adds_nothing():
    """A node that was not observed, one without counts; and what stands where nothing was observed has no effect."""
    tree = small_tree()
    walk = random_walk(tree)
    leaves = RANDOM(0).poisson(4, (3, 6))
    leaves[1, 1:3] = 0  # the children of A
    observed = np.ones((3, 6), bool)
    observed[2, 1:3] = False
    data = TreeCounts.of(tree, leaves, np.ones((3, 1)), observed)
    a = list(tree.inner).index(tree.position("A"))
    by_node = walk.node_log_likelihoods(data)
    np.testing.assert_allclose(by_node[1:, a], 0, atol=1e-12)
    other = np.where(observed, leaves, 77)
    np.testing.assert_array_equal(
        by_node, walk.node_log_likelihoods(TreeCounts.of(tree, other, np.ones((3, 1)), observed))
    )
    two = Node(walk.nodes[0].split.of_children(np.array([1, 2])))
    root = data.of_node(0)
    assert by_node[2, 0] == pytest.approx(two.log_likelihood(NodeCounts(root.counts[2:, 1:], root.design[2:]))[0])
    assert np.isnan(walk.mean_shares(data)[2, tree.position("a1")])


def simulated(n=300, seed=0):
    """Counts of random walks whose deviations are large."""
    tree, random = small_tree(), RANDOM(seed)
    walk = LocalWalk(tree, {int(v): Node(random_split(len(tree.children[v]), 5 + v, 1)) for v in tree.inner})
    counts = walk.draw(random.integers(50, 200, n), np.ones((n, 1)), random)
    return tree, walk, TreeCounts(tree, counts, np.ones((n, 1)))


def test_draws_have_the_probabilities():
    tree = Tree.from_edges([("root", name) for name in "abc"])
    walk, n = random_walk(tree, 3), 20_000
    drawn = walk.draw(np.full(n, 3), np.ones((n, 1)), RANDOM(0))[:, tree.leaves]
    every = np.array([row for row in product(range(4), repeat=3) if sum(row) == 3])
    p = np.exp(walk.log_likelihood(TreeCounts.of(tree, every, np.ones((len(every), 1)))))
    shares = np.array([(drawn == row).all(1).mean() for row in every])
    assert np.abs(shares - p).max() < 4 * np.sqrt(0.25 / n)


@pytest.mark.parametrize("exchangeable", [True, False])
def test_a_fit_never_falls_and_ends_where_no_slope_is_left(exchangeable):
    _, _, data = simulated(60)
    fit = fit_local(data, exchangeable=exchangeable, tol=1e-9)
    assert fit.converged
    assert (np.diff(fit.history) >= -1e-9).all()
    for v, node in fit.walk.nodes.items():
        _, slope = node.value_and_gradient(data.of_node(v))
        slope -= Precisions().of(node.split) * node.split.to_vector()
        free = slope[: node.split.coefficients.size] if exchangeable else slope
        c = len(node.split.rest)
        off = np.concatenate([np.ones(3 * c), (1 - np.eye(c)).ravel(), (1 - np.eye(c)).ravel()])[: len(free)]
        assert np.abs(free * off).max() < 0.05


def test_a_walk_fits_what_walks_made_better_than_the_dirichlet_tree():
    """Children of which each is mostly placed after the one before, and takes much of what is left or nothing."""
    tree, n, random = Tree.from_edges([("root", name) for name in "abcd"]), 500, RANDOM(0)
    pairs = np.zeros((4, 4))
    pairs[2, 0], pairs[3, 1] = 3, -3
    truth = LocalWalk(
        tree, {0: Node(Split(np.zeros((1, 4)), np.array([3.0, 1, -1, -3]), np.array([-1.0, 3, -1, 0]), pairs, -pairs))}
    )
    data = TreeCounts(tree, truth.draw(np.full(n, 100), np.ones((n, 1)), random), np.ones((n, 1)))
    train, test = data.subset(np.arange(300)), data.subset(np.arange(300, n))
    dirichlet, walk = (fit_local(train, exchangeable=each).walk.log_likelihood(test).mean() for each in (True, False))
    best = truth.log_likelihood(test).mean()
    assert dirichlet + 0.2 < walk < best + 0.05
    assert walk > best - 0.3


def test_the_order_of_columns_does_not_matter():
    tree, _, data = simulated(50)
    turned = Tree.from_edges([(tree.names[tree.parents[i]], tree.names[i]) for i in range(len(tree) - 1, 0, -1)])
    counts = data.counts[:, [tree.position(name) for name in turned.names]]
    for children in (10, 2):
        one = fit_local(data, max_children=children)
        two = fit_local(TreeCounts(turned, counts, data.design), max_children=children)
        assert one.history[-1] == pytest.approx(two.history[-1], abs=0.05)


def test_many_children_are_placed_in_one_order():
    """By the generalised Dirichlet distribution, of which the Dirichlet is a special case."""
    _, _, data = simulated(100)
    wide = fit_local(data, max_children=2)
    assert {v: node.order is None for v, node in wide.walk.nodes.items()} == {0: False, 1: True, 2: False}
    assert wide.history[-1] >= fit_local(data, exchangeable=True).history[-1]


def test_an_end_before_convergence_says_so():
    _, _, data = simulated(50)
    calls = []
    fit = fit_local(data, max_iter=1, on_iteration=lambda done, value: calls.append((done, value)))
    assert [done for done, _ in calls] == [1, 2, 3]
    assert calls[-1][1] == pytest.approx(fit.history[-1] / 50)
    assert (fit.converged, fit.reason) == (False, "1 iterations, the maximum, at 3 of 3 nodes")


def test_ctrl_c_keeps_what_was_reached(monkeypatch):
    _, _, data = simulated(50)
    whole, count = Node.value_and_gradient, 0

    def pressed(self, own):
        nonlocal count
        count += 1
        if count == 30:
            raise KeyboardInterrupt
        return whole(self, own)

    monkeypatch.setattr(Node, "value_and_gradient", pressed)
    fit = fit_local(data)
    assert not fit.converged
    assert "interrupted after 0 of 3 nodes" in fit.reason
    assert (np.diff(fit.history) >= 0).all()
    assert len(fit.history) > 5
    assert np.isfinite(fit.walk.log_likelihood(data)).all()
