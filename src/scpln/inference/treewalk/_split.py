"""How the count of a node is split among its children, in an order that is summed over."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from scpln.core import digamma_rising, log_rising

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scpln.core import Array

    from ._lattice import Lattice

#: Samples × steps that are in memory at a time.
BLOCK = 1_000_000
#: Inverse variance of the normal prior of intercepts of log-concentrations: it keeps those of children that are never counted finite.
INTERCEPT_PRECISION = 1e-2


@dataclass(frozen=True)
class Split:
    r"""Parameters of the split of a node among its c children.

    .. math::
        n_c \mid S \sim \text{BetaBinomial}(N - n_S, \alpha_{cS}, \beta_{cS}), \quad
        \log\alpha_{cS} = x \cdot a_c + \sum_{j \in S} G_{cj}, \quad
        \log\beta_{cS} = \log\sum_{j \notin S \cup c} e^{x \cdot a_j} + b_c + \sum_{j \in S} B_{cj}

    where S are the siblings that were placed before c, in an order that is Plackett–Luce with log-weights w: the next is c with probability
    :math:`e^{w_c} / \sum_{j \notin S} e^{w_j}`. With b, G and B zero every order gives the Dirichlet-multinomial distribution of
    concentrations :math:`e^{x \cdot a}`, whatever w.

    Parameters
    ----------
    coefficients
        a, (d, c): of log-concentrations, by column of the design, whose first is the intercept.
    preferences
        w, (c,).
    rest
        b, (c,): how the concentration of those that are left deviates.
    on_child, on_rest
        G and B, (c, c): what having placed the sibling of each column does to the child of each row; diagonals are zero.
    """

    coefficients: Array
    preferences: Array
    rest: Array
    on_child: Array
    on_rest: Array

    @classmethod
    def exchangeable(cls, coefficients: Array) -> Split:
        """Dirichlet-multinomial split of these coefficients, (d, c)."""
        c = coefficients.shape[1]
        return cls(coefficients, np.zeros(c), np.zeros(c), np.zeros((c, c)), np.zeros((c, c)))

    def of_children(self, present: NDArray[np.intp]) -> Split:
        """The split among some of the children."""
        pair = np.ix_(present, present)
        return Split(
            self.coefficients[:, present],
            self.preferences[present],
            self.rest[present],
            self.on_child[pair],
            self.on_rest[pair],
        )

    def to_vector(self) -> Array:
        """All parameters in a row."""
        return np.concatenate([getattr(self, each.name).ravel() for each in fields(self)])

    def from_vector(self, vector: Array) -> Split:
        """The same from a row of parameters, shaped as these are."""
        found, start = {}, 0
        for each in fields(self):
            value = getattr(self, each.name)
            found[each.name] = vector[start : start + value.size].reshape(value.shape)
            start += value.size
        return replace(self, **found)


@dataclass(frozen=True)
class Steps:
    """Steps of samples: concentrations of the child and of those that are left, (n or 1, T), and logarithms of probabilities.

    Attributes
    ----------
    counts, left
        Of the child, and of those that are left after it, (n, T).
    alpha, beta
        Their concentrations; β is 1 where nothing is left.
    is_split
        Whether anything is left, so that there is something to split, (T,).
    log_steps
        Log-probability of choosing the child and of its count, without binomial coefficients, (n, T).
    """

    counts: Array
    left: Array
    alpha: Array
    beta: Array
    is_split: NDArray[np.bool_]
    log_steps: Array


def steps_of(split: Split, lattice: Lattice, counts: Array, design: Array) -> Steps:
    """Steps of samples with these counts of children, (n, c), and this design, (n, d)."""
    child, others = lattice.child, lattice.others
    share = concentrations(split, design)
    is_split = np.asarray(others.any(1))
    on_child = (split.on_child[child] * lattice.placed).sum(1)
    on_rest = np.where(is_split, split.rest[child] + (split.on_rest[child] * lattice.placed).sum(1), 0.0)
    alpha = share[:, child] * np.exp(on_child)
    beta = np.where(is_split, share @ others.T, 1.0) * np.exp(on_rest)
    placing, left = counts[:, child], counts @ others.T
    splits = log_rising(alpha, placing) + log_rising(beta, left) - log_rising(alpha + beta, placing + left)
    return Steps(placing, left, alpha, beta, is_split, log_policy(split, lattice) + np.where(is_split, splits, 0.0))


def concentrations(split: Split, design: Array) -> Array:
    """Of each child in each sample, (n, c); one row for all without covariates."""
    return np.asarray(np.exp((design[:1] if design.shape[1] == 1 else design) @ split.coefficients))


def log_policy(split: Split, lattice: Lattice) -> Array:
    """Log-probability that the child of each step is next, (T,): 0 where the order is known."""
    if lattice.is_one_order:
        return np.zeros(len(lattice.child))
    weights = np.exp(split.preferences - split.preferences.max())
    return np.asarray(np.log(weights[lattice.child] / ((1 - lattice.placed) @ weights)))


def blocks(n: int, lattice: Lattice) -> Iterator[slice]:
    """Samples in parts that fit into memory."""
    size = max(1, BLOCK // len(lattice.child))
    return (slice(start, start + size) for start in range(0, n, size))


def log_coefficients(counts: Array) -> Array:
    """Logarithms of multinomial coefficients, (n,): binomial ones of any order multiply up to these."""
    return np.asarray(gammaln(counts.sum(1) + 1) - gammaln(counts + 1).sum(1))


def log_likelihood(split: Split, lattice: Lattice, counts: Array, design: Array) -> Array:
    """Log-probability of the counts of the children given their sum, (n,): the sum over all orders."""
    found = [
        lattice.forward(steps_of(split, lattice, counts[part], design[part]).log_steps)[-1][:, 0]
        for part in blocks(len(counts), lattice)
    ]
    return np.concatenate([np.zeros(0), *found]) + log_coefficients(counts)


def value_and_gradient(split: Split, lattice: Lattice, counts: Array, design: Array) -> tuple[float, Split]:
    r"""Log-likelihood of all samples, and its gradient: mean gradients of the steps under the posterior of orders (Fisher's identity)."""
    total = float(log_coefficients(counts).sum())
    gradient = split.from_vector(np.zeros(split.to_vector().size))
    for part in blocks(len(counts), lattice):
        value, slope = _of_block(split, lattice, counts[part], design[part])
        total += value
        gradient = gradient.from_vector(gradient.to_vector() + slope.to_vector())
    return total, gradient


def _of_block(split: Split, lattice: Lattice, counts: Array, design: Array) -> tuple[float, Split]:
    steps = steps_of(split, lattice, counts, design)
    totals, probabilities = lattice.step_probabilities(steps.log_steps)
    weights = probabilities * steps.is_split
    together = digamma_rising(steps.alpha + steps.beta, steps.counts + steps.left)
    of_child = weights * steps.alpha * (digamma_rising(steps.alpha, steps.counts) - together)
    of_rest = weights * steps.beta * (digamma_rising(steps.beta, steps.left) - together)
    chosen, others, placed = lattice.chosen, lattice.others, lattice.placed
    share = concentrations(split, design)
    of_sums = of_rest / np.where(steps.is_split, share @ others.T, 1.0)
    of_log_share = of_child @ chosen + share * (of_sums @ others)
    child_sums, rest_sums = of_child.sum(0)[:, None] * chosen, of_rest.sum(0)[:, None] * chosen
    return float(totals.sum()), Split(
        design.T @ of_log_share,
        _of_preferences(split, lattice, probabilities.sum(0)),
        rest_sums.sum(0),
        child_sums.T @ placed,
        rest_sums.T @ placed,
    )


def _of_preferences(split: Split, lattice: Lattice, sums: Array) -> Array:
    """Gradient with respect to log-weights, of how often each step is taken, (T,)."""
    if lattice.is_one_order:
        return np.zeros(lattice.n_children)
    weights, waiting = np.exp(split.preferences - split.preferences.max()), 1 - lattice.placed
    return np.asarray(sums @ lattice.chosen - (sums / (waiting @ weights)) @ waiting * weights)


def position_probabilities(split: Split, lattice: Lattice, counts: Array, design: Array) -> Array:
    """Posterior probability that each child (second axis) is placed in each position (third axis), (n, c, c)."""
    found = []
    for part in blocks(len(counts), lattice):
        steps = steps_of(split, lattice, counts[part], design[part])
        probabilities = lattice.step_probabilities(steps.log_steps)[1]
        by_size = [probabilities[:, level.steps] @ lattice.chosen[level.steps] for level in lattice.levels]
        found.append(np.stack(by_size, axis=-1))
    return np.concatenate([np.zeros((0, lattice.n_children, lattice.n_children)), *found])


def mean_shares(split: Split, lattice: Lattice, counts: Array, design: Array) -> Array:
    r"""Posterior means of the children's shares of the node, (n, c).

    Given the order, shares of what is left are independent, each Beta(α + n, β + rest): the mean is a product, and that over orders a sum over steps,
    which the same dynamic programming gives with weights :math:`1 - E[\phi]` on the way.
    """
    found = []
    for part in blocks(len(counts), lattice):
        steps = steps_of(split, lattice, counts[part], design[part])
        total = steps.counts + steps.left + steps.alpha + steps.beta
        taken = np.where(steps.is_split, (steps.counts + steps.alpha) / total, 1.0)
        kept = np.where(steps.is_split, (steps.left + steps.beta) / total, 1.0)
        there, onwards = lattice.forward(steps.log_steps + np.log(kept)), lattice.backward(steps.log_steps)
        of_steps = np.empty_like(taken)
        for size, level in enumerate(lattice.levels):
            ways = there[size][:, level.before] + onwards[size + 1][:, level.after] - onwards[0]
            of_steps[:, level.steps] = np.exp(ways + steps.log_steps[:, level.steps]) * taken[:, level.steps]
        found.append(of_steps @ lattice.chosen)
    return np.concatenate([np.zeros((0, lattice.n_children)), *found])
