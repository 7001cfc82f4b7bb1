"""The cells' half of the alternation under any likelihood: one damped Newton step of every posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scpln.core import _linalg as linalg
from scpln.inference.newton._states import CELL_TOLERANCE, MIN_STEP, TRUST_RADIUS, CellSteps, slope_along

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array
    from scpln.inference.expectations import Expectation
    from scpln.inference.newton._families import GaussianFamily
    from scpln.inference.newton._states import CellStates

    from ._block import LikelihoodBlock, LogRateFeatures

#: Times that the way to an indefinite H is halved before its negative curvature is left out.
MAX_HALVINGS = 4
#: A covariance whose log-determinant changed by less than this has converged.
LOG_DET_TOLERANCE = 1e-3
#: Bounds that differ by less than so many roundings are the same.
ROUNDINGS = 4.0


@np.errstate(invalid="ignore", divide="ignore", over="ignore")  # a step that overflows is not taken
def step_cells(
    block: LikelihoodBlock,
    states: CellStates,
    features: LogRateFeatures,
    family: GaussianFamily,
    last: CellSteps | None = None,
) -> CellSteps:
    """One step for the cells of `block`, whose expectations are at their posteriors: move both, in place.

    With g = Cᵀ E[ℓ'] − m and H = I − Cᵀ diag(E[ℓ'']) C, a cell's mean moves along H⁻¹ g and its covariance to H⁻¹, by
    its own step length; a cell whose bound would fall stays, with a shorter length for the next step. `last` is the step
    before, if the genes did not change since.
    """
    cells, now = block.cells, block.expectation
    old = states.take(cells)
    gradient = features.slope(now.slope, now.weight, old.mean) - old.mean
    length = old.step if last is None else last.next_length(gradient, old.step)
    total, precision, covariance, log_det_precision = _curvature(now, old, features, family)

    direction = linalg.multiply(covariance, gradient)
    decrement = slope_along(direction, gradient)
    reach = TRUST_RADIUS / np.sqrt(np.maximum(decrement / (np.abs(total) + family.n_latent), 1e-12))
    mean = old.mean + (length * np.minimum(1, reach))[:, None] * direction
    variance, log_det = family.update(precision, covariance, log_det_precision, old.variance, length)
    new = block.evaluate(mean, variance, features)

    old_divergence = states.divergence(cells, family)
    states.mean[cells], states.variance[cells], states.log_det[cells] = mean, variance, log_det
    gain = new.value - now.value - (states.divergence(cells, family) - old_divergence)
    accepted = gain >= -ROUNDINGS * np.finfo(states.dtype).eps * (1 + np.abs(now.value))
    states.step[cells] = np.where(accepted, np.minimum(1, 2 * length), np.maximum(0.25 * length, MIN_STEP))
    block.expectation = new
    worse = np.flatnonzero(~accepted)
    if len(worse):
        _return(block, worse, states, old, now, features)
    return CellSteps(direction, decrement, length, accepted)


def _return(
    block: LikelihoodBlock,
    rows: NDArray[np.intp],
    states: CellStates,
    old: CellStates,
    expectation: Expectation,
    features: LogRateFeatures,
) -> None:
    """Take some cells of the block back to their `old` states and expectations."""
    new, cells = block.expectation, block.cells[rows]
    part = block.narrow(rows)
    there = part.parameter_gradient(states.mean[cells], states.variance[cells], features)
    new.parameters += part.parameter_gradient(old.mean[rows], old.variance[rows], features) - there
    states.mean[cells], states.variance[cells], states.log_det[cells] = (
        old.mean[rows],
        old.variance[rows],
        old.log_det[rows],
    )
    new.value[rows] = expectation.value[rows]
    new.slope[rows] = expectation.slope[rows]
    new.weight[rows] = expectation.weight[rows]


def _curvature(
    expectation: Expectation, states: CellStates, features: LogRateFeatures, family: GaussianFamily
) -> tuple[Array, Array, Array, Array]:
    """Totals Σ_j w_ij (n,), H (q, q, n), H⁻¹ (q, q, n) and log det H (n,) of cells, with w = −E[ℓ'']."""
    total, precision = _precision(expectation.weight, features)
    covariance = precision.copy()
    log_det = linalg.invert(covariance)
    wrong = np.flatnonzero(~np.isfinite(log_det))
    if len(wrong):
        current = linalg.unpack(family.covariance(states.variance[wrong]), family.n_latent)
        linalg.invert(current)
        convex = _precision(np.maximum(expectation.weight[wrong], 0), features)[1]
        repaired = _definite(precision[:, :, wrong], current, convex)
        precision[:, :, wrong] = repaired
        log_det[wrong] = linalg.invert(repaired)
        covariance[:, :, wrong] = repaired
    return total, precision, covariance, log_det


def _definite(precision: Array, current: Array, convex: Array) -> Array:
    """Definite matrices in place of indefinite H, (q, q, n), of likelihoods that are not log-concave, away from the optimum.

    They are the first of V⁻¹ + s (H − V⁻¹), s = ½, ¼, …, that are definite, with V⁻¹ = `current`: the inverse of such a
    matrix is an ascent direction for V like that of H. H without negative curvature, `convex`, is the last resort.
    """
    repaired, left = convex.copy(), np.arange(precision.shape[2])
    for halving in range(1, MAX_HALVINGS + 1):
        between = current[:, :, left] + 0.5**halving * (precision - current)[:, :, left]
        definite = np.isfinite(linalg.invert(between.copy()))
        repaired[:, :, left[definite]] = between[:, :, definite]
        left = left[~definite]
    return repaired


def _precision(weight: Array, features: LogRateFeatures) -> tuple[Array, Array]:
    statistics = weight @ features.curvature
    q = features.loadings.shape[1]
    precision = linalg.unpack(statistics[:, 1 : 1 + q * (q + 1) // 2], q)
    np.einsum("aan->an", precision)[...] += 1
    return statistics[:, 0], precision


def move_cells(
    block: LikelihoodBlock, states: CellStates, features: LogRateFeatures, family: GaussianFamily, max_steps: int
) -> NDArray[np.intp]:
    """Step each cell of `block` until it has converged to the optimum for the given genes, `max_steps` times at most.

    A cell that has converged stays, so that its result does not depend on the others of its block, and these go on
    in a block of their own: the expectations of `block` are then out of date. Returns the cells that did not converge.
    """
    last: CellSteps | None = None
    for _ in range(max_steps):
        log_det = states.log_det[block.cells]
        last = step_cells(block, states, features, family, last)
        still = np.abs(states.log_det[block.cells] - log_det) < LOG_DET_TOLERANCE
        rows = np.flatnonzero(~(last.gain < CELL_TOLERANCE) | ~last.accepted | ~still)
        if len(rows) < len(last.gain):
            if not len(rows):
                return block.cells[rows]
            block, last = block.narrow(rows), last.take(rows)
    assert last is not None
    return block.cells[last.stuck]


def block_precisions(block: LikelihoodBlock, features: LogRateFeatures) -> Array:
    """Precisions H (q, q, n) of the best posteriors of any covariance for the current expectations of the cells.

    Negative weights, of likelihoods that are not log-concave, count as none.
    """
    return _precision(np.maximum(block.expectation.weight, 0), features)[1]
