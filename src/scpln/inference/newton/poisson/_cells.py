"""The cells' half of the alternation: one damped Newton step of every posterior, with B and C fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.newton._states import (
    CELL_TOLERANCE,
    MIN_STEP,
    TRUST_RADIUS,
    CellStates,
    CellSteps,
    _divergence,
    slope_along,
)

from ._block import GeneFeatures, RateBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._genes import GeneParameters


@np.errstate(invalid="ignore", divide="ignore", over="ignore")  # a step that overflows is not taken
def step_cells(
    block: RateBlock, states: CellStates, features: GeneFeatures, family: GaussianFamily, last: CellSteps | None = None
) -> CellSteps:
    """One step for the cells of `block`, whose rates are at their posteriors: move both, in place.

    With g = Cᵀ(y − A) − m and H = I + Cᵀ diag(A) C, a cell's mean moves along H⁻¹ g and its covariance to H⁻¹, by its
    own step length; a cell whose bound would fall stays, with a shorter length for the next step. `last` is the step before, if the genes did
    not change since.
    """
    cells, q = block.cells, family.n_latent
    mean, variance, log_det = states.mean[cells], states.variance[cells], states.log_det[cells]
    total, expected, precision = block.curvature(mean, features)
    slopes = block.counts @ features.loadings
    gradient = slopes - expected - mean
    length = states.step[cells] if last is None else last.next_length(gradient, states.step[cells])
    covariance = precision.copy()
    log_det_precision = linalg.invert(covariance)

    direction = linalg.multiply(covariance, gradient)
    decrement = slope_along(direction, gradient)
    reach = TRUST_RADIUS / np.sqrt(np.maximum(decrement / (total + q), 1e-12))
    new_mean = mean + (length * np.minimum(1, reach))[:, None] * direction
    new_variance, new_log_det = family.update(precision, covariance, log_det_precision, variance, length)
    new_total = block.evaluate(new_mean, new_variance, features)

    gain = np.einsum("nq,nq->n", new_mean - mean, slopes) - (new_total - total)
    gain -= _divergence(new_mean, new_variance, new_log_det, family) - _divergence(mean, variance, log_det, family)
    accepted = gain >= -1e-4 - 2e-6 * total
    worse = np.flatnonzero(~accepted)
    if len(worse):
        new_mean[worse], new_variance[worse], new_log_det[worse] = mean[worse], variance[worse], log_det[worse]
        block.reevaluate(worse, mean[worse], variance[worse], features)
    states.mean[cells], states.variance[cells], states.log_det[cells] = new_mean, new_variance, new_log_det
    states.step[cells] = np.where(accepted, np.minimum(1, 2 * length), np.maximum(0.25 * length, MIN_STEP))
    return CellSteps(direction, decrement, length, accepted)


def move_cells(
    block: RateBlock,
    states: CellStates,
    features: GeneFeatures,
    family: GaussianFamily,
    max_steps: int,
    last: CellSteps | None = None,
) -> NDArray[np.intp]:
    """Step the cells of `block` until all have converged to the optimum for the given genes, `max_steps` times at most.

    Once most have converged, the others go on in a block of their own. Returns the rows that did not converge.
    """
    for left in reversed(range(max_steps)):
        last = step_cells(block, states, features, family, last)
        rows = np.flatnonzero(~(last.gain < CELL_TOLERANCE) | ~last.accepted)
        if not len(rows) or not left:
            return rows[last.stuck[rows]]
        if 2 * len(rows) <= len(last.gain):
            part = block.narrow(rows)
            stuck = move_cells(part, states, features, family, left, last.take(rows))
            block.rates[rows] = part.rates
            return rows[stuck]
    return np.empty(0, np.intp)


def precisions(data: CountData, genes: GeneParameters, states: CellStates, family: GaussianFamily) -> Array:
    """Precisions H_i (q, q, n) of the best posteriors of any covariance for the current rates of a few cells."""
    features = GeneFeatures.of(data.membership, genes, family, states.dtype)
    block = RateBlock(data.n_cells, data, family, states.dtype)
    block.load(0, data.n_cells, data.rows(0, data.n_cells))
    block.update_expectations(states, features)
    return block.curvature(states.mean, features)[2]
