"""Fit the split of one node by a quasi-Newton method, which never lowers the penalised log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from ._lattice import MOST_CHILDREN
from ._node import Node
from ._split import INTERCEPT_PRECISION, Split

if TYPE_CHECKING:
    from scpln.core import Array

    from ._node import NodeCounts

#: Sum of the concentrations that a fit starts from, and by how much its log-weights prefer large children: the first of these alone where there are
#: more children than few.
START_CONCENTRATION, START_PREFERENCES, FEW_CHILDREN = 10.0, (0.0, 1.0, -1.0), 6
#: Corrections that are remembered, and evaluations for each iteration at most.
MEMORY, EVALUATIONS = 20, 3
#: Largest slope, nats per sample, at which a search along a line that finds nothing better is the end.
SMALL_SLOPE = 1e-5


@dataclass(frozen=True)
class Precisions:
    """Inverse variances of normal priors: of coefficients other than intercepts, and of all that tells a walk from a Dirichlet tree."""

    coefficients: float = 1e-2
    deviations: float = 3.0

    def of(self, split: Split) -> Array:
        """Of each parameter, in a row."""
        pieces = [np.full(split.coefficients.shape, self.coefficients)]
        pieces[0][0] = INTERCEPT_PRECISION
        pieces += [np.full(each.shape, self.deviations) for each in (split.preferences, split.rest)]
        pieces += [np.full(each.shape, self.deviations) for each in (split.on_child, split.on_rest)]
        return np.concatenate([each.ravel() for each in pieces])


@dataclass(frozen=True)
class FittedNode:
    """A node, and how it was found.

    Attributes
    ----------
    node
        With the best parameters.
    history
        Penalised log-likelihood of all samples after each iteration, from the start on.
    converged, interrupted
        Whether the last iteration gained less than the tolerance; whether Ctrl-C ended it.
    """

    node: Node
    history: list[float]
    converged: bool
    interrupted: bool = False


def fit_node(
    data: NodeCounts,
    *,
    exchangeable: bool,
    order: tuple[int, ...],
    precisions: Precisions,
    max_iter: int,
    tol: float,
    max_children: int = MOST_CHILDREN,
) -> FittedNode:
    """Maximise the log-likelihood of a split plus the log-prior of its parameters.

    First without order, then from there: with the orders of up to `max_children` children, from three sets of log-weights, of which the best is kept;
    or, of more children, in the order that is given.
    """
    settings: dict[str, Any] = {"precisions": precisions, "max_iter": max_iter, "tol": tol}
    first = _ascend(Node(_start(data), order), data, of_order=False, **settings)
    if exchangeable or first.interrupted:
        return first
    if data.counts.shape[1] > max_children:
        return _longer(first, _ascend(first.node, data, of_order=True, **settings))
    best = None
    sizes = np.argsort(np.argsort(order)) / (len(order) - 1) - 0.5
    for lean in START_PREFERENCES[: None if len(order) <= FEW_CHILDREN else 1]:
        split = Split(**{**vars(first.node.split), "preferences": -lean * sizes})
        found = _ascend(Node(split), data, of_order=True, **settings)
        best = found if best is None or found.history[-1] > best.history[-1] else best
        if found.interrupted:
            best = replace(best, converged=False, interrupted=True)
            break
    assert best is not None
    return _longer(first, best)


def _longer(first: FittedNode, second: FittedNode) -> FittedNode:
    """One fit after another; what is lower than where the first ended is none."""
    rising = [value for value in second.history if value >= first.history[-1]]
    if not rising:
        return FittedNode(Node(first.node.split, second.node.order), first.history, first.converged, second.interrupted)
    return FittedNode(second.node, [*first.history, *rising], second.converged, second.interrupted)


def _start(data: NodeCounts) -> Split:
    """Concentrations as shares of all counts."""
    totals, d = data.counts.sum(0) + 0.5, data.design.shape[1]
    coefficients = np.zeros((d, len(totals)))
    coefficients[0] = np.log(START_CONCENTRATION * totals / totals.sum())
    return Split.exchangeable(coefficients)


def _free(node: Node, *, of_order: bool) -> Array:
    """Which parameters are estimated, as a row of 0 and 1."""
    split, c = node.split, len(node.split.rest)
    mask = split.from_vector(np.zeros(split.to_vector().size))
    mask.coefficients[:] = 1
    if of_order:
        mask.rest[:] = 1
    if of_order and node.order is None:
        mask.preferences[:] = 1
        mask.on_child[:] = mask.on_rest[:] = 1 - np.eye(c)
    return mask.to_vector() > 0


def _ascend(
    node: Node, data: NodeCounts, *, of_order: bool, precisions: Precisions, max_iter: int, tol: float
) -> FittedNode:
    split, n = node.split, max(len(data.counts), 1)
    point, weights, free = split.to_vector(), precisions.of(split), _free(node, of_order=of_order)

    def vector(x: Array) -> Array:
        full = point.copy()
        full[free] = x
        return full

    def objective(x: Array) -> tuple[float, Array]:
        full = vector(x)
        value, slope = Node(split.from_vector(full), node.order).value_and_gradient(data)
        return -(value - 0.5 * float(weights @ full**2)) / n, -(slope - weights * full)[free] / n

    best, history, interrupted = point[free], [-n * objective(point[free])[0]], False

    def remember(intermediate_result: object) -> None:
        nonlocal best
        best = np.array(intermediate_result.x)  # type: ignore[attr-defined]
        history.append(-n * float(intermediate_result.fun))  # type: ignore[attr-defined]

    converged = False
    if max_iter < 1:
        return FittedNode(node, history, converged)
    try:
        scale = max(abs(history[0]) / n, 1.0)
        options = {
            "maxiter": max_iter,
            "ftol": tol / scale,
            "gtol": 1e-12,
            "maxcor": MEMORY,
            "maxfun": EVALUATIONS * max_iter + 20,
        }
        found = minimize(objective, best, jac=True, method="L-BFGS-B", callback=remember, options=options)
        converged = bool(found.success) or float(np.abs(found.jac).max()) < SMALL_SLOPE
    except KeyboardInterrupt:
        interrupted = True
    return FittedNode(Node(split.from_vector(vector(best)), node.order), history, converged, interrupted)
