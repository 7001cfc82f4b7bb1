"""Global walks on trees: laws of the policy and of counts by enumeration of all walks, gradients, and the Dirichlet tree."""

from itertools import product
from math import factorial

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import dirichlet_multinomial

from scpln.core import Tree
from scpln.inference.treewalk import GlobalWalk, TreeCounts, fit_global, fit_local
from scpln.inference.treewalk import _fit_global as fitting
from scpln.inference.treewalk import _global as results
from scpln.inference.treewalk._global import walk_batch
from scpln.module.treewalk import GlobalWalkModule, TreeTensors, draw_walks, leave_one_out, log_policy

RANDOM = np.random.default_rng


def small_tree():
    """Three inner nodes below the root, of which one is below another: 6 walks would be, but 3 are."""
    edges = [("root", "A"), ("root", "B"), ("root", "c"), ("A", "a"), ("A", "D"), ("D", "d1"), ("D", "d2")]
    return Tree.from_edges([*edges, ("B", "b1"), ("B", "b2"), ("B", "b3")])


def binary_tree():
    """Seven inner nodes, three levels."""
    edges = [(name, name + side) for name in ("r", "rl", "rr", "rll", "rlr", "rrl", "rrr") for side in "lr"]
    return Tree.from_edges(edges)


def all_walks(tree):
    """Every order of the inner nodes in which parents come first, by recursion."""
    parents = {i: list(tree.inner).index(tree.parents[v]) for i, v in enumerate(tree.inner) if v}

    def onwards(walk):
        if len(walk) == len(tree.inner):
            yield walk
        for i, parent in parents.items():
            if i not in walk and parent in walk:
                yield from onwards([*walk, i])

    return np.array(list(onwards([0])))


def tensors(walks, n):
    return torch.from_numpy(walks).expand(n, *walks.shape)


def random_module(tree, d=2, seed=0, size=0.7):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = GlobalWalkModule(tree, d, 3)
        for value in module.parameters():
            torch.nn.init.normal_(value, std=size)
        for value in module.proposal.parameters():
            value.data *= 0.3  # so that weights have a variance
    module.center.copy_(torch.linspace(-0.5, 0.5, len(module.center)))
    module.spread.copy_(torch.linspace(0.5, 1.5, len(module.spread)))
    return module


def make(tree, n=4, seed=0):
    """Counts of which sample 0 has none in a clade, and sample 1 lacks one, and a leaf of another."""
    random = RANDOM(seed)
    leaves = random.poisson(3, (n, len(tree.leaves)))
    observed = np.ones(leaves.shape, bool)
    names = tree.leaf_names
    leaves[0, [names.index(name) for name in ("d1", "d2")]] = 0
    observed[1, [names.index(name) for name in ("d1", "d2", "b1")]] = False
    return TreeCounts.of(tree, leaves, np.column_stack([np.ones(n), random.normal(size=n)]), observed)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(module, tree, data, i, walk):
    """Log-probability of a sample given a walk: gates of the recurrent unit in NumPy, splits by scipy. And shares of parents."""
    at = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    counts, x = data.counts[i], data.design[i]
    present = np.ones(len(tree), bool) if data.present is None else data.present[i]
    h, value, shares = np.zeros(3), 0.0, np.full(len(tree), np.nan)
    shares[0] = 1
    for which in walk:
        node = tree.inner[which]
        children = np.array([c for c in tree.children[node] if present[c]], dtype=int)
        if len(children) == 0:
            continue
        own = children - 1
        alpha = np.exp(x @ at["coefficients"][:, own] + at["on_split"][own] @ h)
        shares[children] = (alpha + counts[children]) / (alpha + counts[children]).sum()
        if len(children) < 2 or counts[node] == 0:
            continue
        value += dirichlet_multinomial.logpmf(counts[children].astype(int), alpha, int(counts[node]))
        logs = np.log(counts[children] + 0.5)
        ratios = (logs - logs.mean() - at["center"][own]) / at["spread"][own]
        told = at["state.of_node"][which] + ratios @ at["state.of_ratio"][own]
        gates_x = np.split(at["state.gru.weight_ih_l0"] @ told + at["state.gru.bias_ih_l0"], 3)
        gates_h = np.split(at["state.gru.weight_hh_l0"] @ h + at["state.gru.bias_hh_l0"], 3)
        reset, keep = sigmoid(gates_x[0] + gates_h[0]), sigmoid(gates_x[1] + gates_h[1])
        h = (1 - keep) * np.tanh(gates_x[2] + reset * gates_h[2]) + keep * h
    return value, shares


def policy_by_hand(module, tree, walk):
    """Log-probability of a walk, one step after the other; distances by climbing to the common ancestor."""
    weights, penalty = module.preferences.detach().numpy(), module.penalty.item()

    def way(node):
        return [node, *way(tree.parents[node])] if node else [0]

    def distance(one, other):
        one, other = way(tree.inner[one]), way(tree.inner[other])
        return len(set(one) ^ set(other))

    value, parent = 0.0, {i: list(tree.inner).index(tree.parents[v]) for i, v in enumerate(tree.inner) if v}
    for step in range(1, len(walk)):
        frontier = [i for i in parent if i not in walk[:step] and parent[i] in walk[:step]]
        energies = {i: weights[i] - penalty * distance(walk[step - 1], i) for i in frontier}
        value += energies[walk[step]] - logsumexp(list(energies.values()))
    return value


def exact(module, data):
    """Log-likelihood of each sample: the sum over all walks."""
    with torch.no_grad():
        joint = module.log_joint(walk_batch(module, data), tensors(all_walks(data.tree), len(data)))
    return joint.logsumexp(1).numpy()


def test_linear_extensions_of_seven_nodes_are_eighty_and_their_probabilities_add_up_to_one():
    tree = binary_tree()
    walks, shape = all_walks(tree), TreeTensors.of(tree)
    sizes = [7, 3, 3, 1, 1, 1, 1]
    assert len(walks) == factorial(7) // np.prod(sizes) == 80
    module = random_module(tree, 1)
    found = log_policy(shape, tensors(walks, 1), module.preferences[None], module.penalty).detach()[0]
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-12)
    for k in (0, 17, 63):
        assert found[k].item() == pytest.approx(policy_by_hand(module, tree, walks[k].tolist()), abs=1e-12)


def test_drawn_walks_have_the_probabilities():
    tree = small_tree()
    walks, module, n = all_walks(tree), random_module(tree), 20_000
    assert len(walks) == 3
    weights = torch.tensor([[0.0, 1, -0.5, 0.3]], dtype=torch.float64)
    uniforms = torch.from_numpy(RANDOM(0).random((1, n, 3)))
    drawn = draw_walks(module.tree, weights, torch.tensor(0.7), uniforms)[0].numpy()
    p = log_policy(module.tree, tensors(walks, 1), weights, torch.tensor(0.7)).exp()[0].numpy()
    shares = [(drawn == walk).all(1).mean() for walk in walks]
    assert sum(shares) == 1
    np.testing.assert_allclose(shares, p, atol=4 * np.sqrt(0.25 / n))
    edges = draw_walks(module.tree, weights, torch.tensor(0.7), torch.tensor([[[0.0] * 3, [1 - 2**-53] * 3]]).double())
    assert all((walks == walk).all(1).any() for walk in edges[0].numpy())


def test_probabilities_of_walks_and_counts_are_those_by_hand():
    tree = small_tree()
    module, data, walks = random_module(tree), make(tree), all_walks(tree)
    with torch.no_grad():
        batch = walk_batch(module, data)
        splits = module.log_splits(batch, tensors(walks, len(data)))
        policy = module.log_walks(tensors(walks, 1))[0].numpy()
    for i, (k, walk) in product(range(len(data)), enumerate(walks)):
        assert splits[i, k].sum().item() == pytest.approx(by_hand(module, tree, data, i, walk)[0], abs=1e-10)
        assert policy[k] == pytest.approx(policy_by_hand(module, tree, walk.tolist()), abs=1e-12)
    assert splits[0, :, list(tree.inner).index(tree.position("D"))].abs().max() < 1e-12  # nothing to split
    assert splits[1, :, list(tree.inner).index(tree.position("D"))].abs().max() < 1e-12  # not observed


def test_probabilities_of_all_counts_of_a_total_add_up_to_one():
    tree = Tree.from_edges([("r", "A"), ("r", "B"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")])
    leaves = np.array([row for row in product(range(5), repeat=4) if sum(row) == 4])
    data = TreeCounts.of(tree, leaves, np.ones((len(leaves), 1)))
    module = random_module(tree, 1, size=1.5)
    values = exact(module, data)
    assert np.exp(values).sum() == pytest.approx(1, abs=1e-12)
    i = leaves.tolist().index([1, 1, 2, 0])
    one_walk = [by_hand(module, tree, data, i, walk)[0] for walk in ([0, 1, 2], [0, 2, 1])]
    assert abs(one_walk[0] - one_walk[1]) > 0.01  # the order matters


def test_splits_without_the_state_are_the_dirichlet_tree_whatever_the_policy():
    tree, data = small_tree(), make(small_tree())
    module = random_module(tree)
    torch.nn.init.zeros_(module.on_split)
    coefficients = module.coefficients.detach().numpy()
    for i in (0, 2, 3):  # without those that lack leaves
        wanted = 0.0
        for v in tree.inner:
            children = tree.children[v]
            alpha = np.exp(data.design[i] @ coefficients[:, children - 1])
            wanted += dirichlet_multinomial.logpmf(data.counts[i, children].astype(int), alpha, int(data.counts[i, v]))
        assert exact(module, data)[i] == pytest.approx(wanted, abs=1e-10)


def test_bounds_are_below_the_exact_log_likelihood_and_weighted_ones_approach_it():
    tree = binary_tree()
    data = TreeCounts.of(tree, RANDOM(1).poisson(4, (5, 8)), np.ones((5, 1)))
    module = random_module(tree, 1, size=0.4).requires_grad_(False)
    walk, wanted, walks = GlobalWalk(tree, module), exact(module, data), tensors(all_walks(tree), 5)
    batch = walk_batch(module, data)
    log_q = module.log_proposal(batch, walks)
    bound = (log_q.exp() * (module.log_joint(batch, walks) - log_q)).sum(1).numpy()
    np.testing.assert_allclose(log_q.exp().sum(1), 1, atol=1e-12)
    assert (bound < wanted).all()
    np.testing.assert_allclose(walk.elbo(data), bound, atol=0.5)
    np.testing.assert_allclose(walk.iw_bound(data, 4000), wanted, atol=0.05)
    assert walk.elbo(data).mean() < walk.iw_bound(data, 10).mean() < wanted.mean()


def test_shares_and_ranks_are_posterior_means(monkeypatch):
    tree = small_tree()
    module, data, walks = random_module(tree).requires_grad_(False), make(tree, 3), all_walks(tree)
    monkeypatch.setattr(results, "WALKS", 4000)
    walk = GlobalWalk(tree, module)
    shares, ranks, nodes = walk.mean_shares(data), walk.ranks(data), walk.node_log_likelihoods(data)
    for i in range(len(data)):
        found = [by_hand(module, tree, data, i, each) for each in walks]
        p = np.array([value for value, _ in found]) + [policy_by_hand(module, tree, each.tolist()) for each in walks]
        p = np.exp(p - logsumexp(p))
        np.testing.assert_allclose(shares[i], p @ [each for _, each in found], atol=0.02)
        np.testing.assert_allclose(ranks[i], p @ (walks.argsort(1) + 1), atol=0.1)
        assert nodes[i].sum() == pytest.approx(p @ [value for value, _ in found], abs=0.1)


def test_the_leave_one_out_gradient_is_unbiased():
    """Its mean over all pairs of walks is the gradient of the bound, which is a sum over all walks."""
    tree, data = small_tree(), make(small_tree(), 2)
    module, every = random_module(tree), all_walks(tree)
    walks = tensors(every, len(data))
    batch = walk_batch(module, data)
    parameters = list(module.parameters())
    joint, log_q = module.log_joint(batch, walks), module.log_proposal(batch, walks)
    wanted = torch.autograd.grad((log_q.exp() * (joint - log_q)).sum(), parameters)
    q = log_q.detach().exp()
    joint, log_q = module.log_joint(batch, walks), module.log_proposal(batch, walks)
    mean = sum(
        (q[:, one] * q[:, other] * leave_one_out(joint[:, [one, other]], log_q[:, [one, other]])).sum()
        for one, other in product(range(len(every)), repeat=2)
    )
    for ours, theirs in zip(torch.autograd.grad(mean, parameters), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)
    assert max(each.abs().max() for each in wanted) > 0.1


def test_gradients_are_those_of_differences():
    tree, data = small_tree(), make(small_tree())
    module, walks = random_module(tree), tensors(all_walks(tree)[:2], 4)
    value = (module.log_joint(walk_batch(module, data), walks) * torch.tensor([1.0, 2])).sum()
    value.backward()
    for parameter in (
        module.coefficients,
        module.on_split,
        module.preferences,
        module.penalty,
        *module.state.parameters(),
    ):
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        i, ends = int(slope.abs().argmax()), []
        for step in (1e-5, -1e-5):
            flat[i] += step
            with torch.no_grad():
                ends.append((module.log_joint(walk_batch(module, data), walks) * torch.tensor([1.0, 2])).sum().item())
            flat[i] -= step
        assert slope[i].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6)


def test_draws_have_the_probabilities():
    tree, n = Tree.from_edges([("r", "A"), ("r", "B"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")]), 20_000
    module = random_module(tree, 1, size=1.0).requires_grad_(False)
    drawn = GlobalWalk(tree, module).draw(np.full(n, 2), np.ones((n, 1)), RANDOM(0))
    leaves = np.array([row for row in product(range(3), repeat=4) if sum(row) == 2])
    p = np.exp(exact(module, TreeCounts.of(tree, leaves, np.ones((len(leaves), 1)))))
    shares = [(drawn[:, tree.leaves] == row).all(1).mean() for row in leaves]
    np.testing.assert_allclose(shares, p, atol=4 * np.sqrt(0.25 / n))
    np.testing.assert_array_equal(drawn, tree.sums(drawn[:, tree.leaves]))


def test_draws_of_a_sample_depend_on_no_other():
    tree = small_tree()
    module, data = random_module(tree).requires_grad_(False), make(tree, 6)
    walk, some = GlobalWalk(tree, module, seed=3), np.array([4, 1])
    for function in (walk.elbo, walk.mean_shares, walk.ranks, walk.node_log_likelihoods):
        np.testing.assert_allclose(function(data.subset(some)), function(data)[some], atol=1e-12)
    assert (walk.elbo(data) != GlobalWalk(tree, module, seed=4).elbo(data)).all()


def linked(n, seed=0):
    """Children of one clade are split as those of the other."""
    tree, random = (
        Tree.from_edges([("r", "A"), ("r", "B"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")]),
        RANDOM(seed),
    )
    shares = random.choice([0.15, 0.85], n)
    ones = random.binomial(30, shares)
    twos = random.binomial(30, shares)
    return TreeCounts.of(tree, np.column_stack([ones, 30 - ones, twos, 30 - twos]), np.ones((n, 1)))


@pytest.fixture(scope="module")
def fitted():
    return fit_global(linked(150), n_state=4, max_epochs=60, learning_rate=0.05)


def test_a_walk_learns_what_the_dirichlet_tree_cannot(fitted):
    """Log 2 at the second of the two clades is what knowing the first one gives; the rest is the dispersion of each."""
    test = linked(200, seed=1)
    dirichlet = fit_local(linked(150), exchangeable=True).walk.log_likelihood(test).mean()
    module = fitted.module
    assert exact(module, test).mean() > dirichlet + 0.5
    walk = GlobalWalk(test.tree, module)
    assert walk.elbo(test).mean() <= exact(module, test).mean() + 1e-6
    assert walk.iw_bound(test, 500).mean() == pytest.approx(exact(module, test).mean(), abs=0.02)
    assert np.mean(fitted.history[-5:]) > fitted.history[0] + 0.3
    assert fitted.history[0] < exact(module, linked(150)).mean()


def test_a_seed_gives_the_same(fitted):
    settings = {"n_state": 4, "max_epochs": 8, "batch_size": 40}
    one, two, other = (fit_global(linked(100), seed=seed, **settings) for seed in (0, 0, 1))
    assert one.history == two.history
    assert one.history != other.history
    assert one.reason == "8 epochs, the maximum: 24 stochastic steps"
    assert not one.converged
    for a, b in zip(one.module.state_dict().values(), two.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_bound_that_no_longer_rises_has_converged(monkeypatch):
    monkeypatch.setattr(fitting, "PATIENCE", 1)
    fit = fit_global(linked(30), n_state=2, max_epochs=500, tol=10.0)
    assert fit.converged
    assert (
        fit.reason
        == "converged: the bound stopped to rise by 10 nats per cell in 100 steps, after 200 stochastic steps"
    )
    assert len(fit.history) == 20


def test_steps_that_are_not_finite_are_refused(monkeypatch):
    whole, calls = GlobalWalkModule.log_joint, []

    def spoiled(self, batch, walks):
        calls.append(1)
        return whole(self, batch, walks) * (np.nan if len(calls) > 10 else 1)

    monkeypatch.setattr(GlobalWalkModule, "log_joint", spoiled)
    fit = fit_global(linked(30), n_state=2, max_epochs=50)
    assert not fit.converged
    assert fit.reason.startswith("failed after 15 stochastic steps (5 of them skipped")
    assert all(torch.isfinite(value).all() for value in fit.module.state_dict().values())


def test_ctrl_c_keeps_what_was_reached(monkeypatch):
    whole, calls = fitting.leave_one_out, []

    def pressed(joint, log_q):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return whole(joint, log_q)

    monkeypatch.setattr(fitting, "leave_one_out", pressed)
    seen = []
    fit = fit_global(linked(30), n_state=2, max_epochs=50, on_iteration=lambda done, value: seen.append((done, value)))
    assert not fit.converged
    assert fit.reason.startswith("interrupted after 11 stochastic steps")
    assert seen == [(10, fit.history[0])]
