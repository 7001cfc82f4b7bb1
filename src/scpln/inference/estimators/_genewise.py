"""Exact maximum likelihood where genes are independent: Newton's method in each gene's coefficients and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scpln.core import ranges

from ._count_moments import count_moments

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scpln.core import Array, Threads
    from scpln.inference.genespace._observations import Observations

#: Cells × genes whose integrals are computed together.
BLOCK_PAIRS = 4096
#: Least and largest standard deviation of log-rates; beyond, quadrature has errors above 1e-6 nats.
LEAST_SD, LARGEST_SD = 1e-4, 5.0
#: Largest change of a coefficient's part in log-rates and of log σ in a step.
REACH = 2.0
#: Least curvature, as a share of the largest, after scaling to a diagonal of ones.
LEAST_CURVATURE = 1e-7
#: Halvings of a step that lowers the likelihood.
HALVINGS = 20


@dataclass
class Genewise:
    r"""Log-likelihood of independent genes with exact slopes, and Newton's steps on it.

    .. math:: \sum_i \log \int \text{Poisson}(y_{ij} \mid e^{o_{ij} + x_i \cdot B_j + \sigma_j t}) \, N(t; 0, 1) dt

    Attributes
    ----------
    coefficients, sd
        B (p, d) and σ (p,).
    values
        Log-likelihood of each gene with the log-prior of its coefficients, (p,).
    shared
        Whether all genes have the same σ.
    """

    observations: Observations
    coefficients: Array
    sd: Array
    ridge: Array
    shared: bool
    pool: Threads

    def __post_init__(self) -> None:
        p, d = self.coefficients.shape
        self.informed = self.observations.counts.sum(0) > 0
        self.values = np.full(p, -np.inf)
        self.gradient, self.hessian = np.zeros((p, d + 1)), np.zeros((p, d + 1, d + 1))
        self.predicted, self.stopped = np.full(p, np.inf), np.zeros(p, bool)

    def evaluate(self, genes: NDArray[np.intp], coefficients: Array, sd: Array, *, slopes: bool) -> tuple[Array, ...]:
        """Values (g,) of some genes at other parameters, and gradients (g, d + 1) and Hessians by these and σ."""
        seen, d = self.observations, coefficients.shape[1]

        def block(start: int, stop: int) -> tuple[Array, Array, Array]:
            cells = slice(start, stop)
            design = seen.design[cells]
            offsets = seen.offsets[cells] if seen.offsets.shape[1] == 1 else seen.offsets[cells][:, genes]
            found = count_moments(offsets + design @ coefficients.T, seen.counts[cells][:, genes], sd, slopes=slopes)
            if seen.observed is not None:
                mask = seen.observed[cells][:, genes]
                found = type(found)(*(each * mask if each.size else each for each in found))
            gradient, hessian = np.zeros((len(genes), d + 1)), np.zeros((len(genes), d + 1, d + 1))
            if slopes:
                gradient[:, :d], gradient[:, d] = found.by_eta.T @ design, found.by_sd.sum(0)
                hessian[:, :d, :d] = np.einsum("ng,na,nb->gab", found.by_eta_eta, design, design, optimize=True)
                hessian[:, :d, d] = hessian[:, d, :d] = found.by_eta_sd.T @ design
                hessian[:, d, d] = found.by_sd_sd.sum(0)
            return found.value.sum(0), gradient, hessian

        blocks = list(ranges(0, seen.shape[0], max(1, BLOCK_PAIRS // len(genes))))
        value, gradient, hessian = (
            np.sum(part, axis=0) for part in zip(*self.pool.map_each(block, blocks), strict=True)
        )
        value -= 0.5 * (self.ridge * coefficients**2).sum(1)
        gradient[:, :d] -= self.ridge * coefficients
        hessian[:, :d, :d] -= np.diag(self.ridge)
        return value, gradient, hessian

    def start(self) -> None:
        """Values and slopes where the search begins."""
        genes = np.arange(len(self.sd))
        self.values, self.gradient, self.hessian = self.evaluate(genes, self.coefficients, self.sd, slopes=True)

    def step(self, tol: float) -> bool:
        """One step of all genes that are not done, each with its own length, or of all together if σ is shared; whether one was."""
        direction = self._directions()
        left = self.predicted >= tol
        if self.shared:
            left[:] = self.predicted[self.informed].sum() >= tol
        genes = np.flatnonzero(left & self.informed)
        if not len(genes):
            return False
        length = np.ones(len(genes))
        for _ in range(HALVINGS):
            coefficients, sd = self._moved(genes, length[:, None] * direction[genes])
            value, _, _ = self.evaluate(genes, coefficients, sd, slopes=False)
            rounding = 1e-13 * np.abs(self.values[genes])
            better = value >= self.values[genes] - rounding
            if self.shared:
                better[:] = value.sum() >= (self.values[genes] - rounding).sum()
            if better.all():
                break
            length[~better] *= 0.5
        kept = genes[better]
        self.stopped[genes[~better]] = True  # no step raises the likelihood
        if not len(kept):
            return False
        self.coefficients[kept], self.sd[kept] = coefficients[better], sd[better]
        self.values[kept], self.gradient[kept], self.hessian[kept] = self.evaluate(
            kept, self.coefficients[kept], self.sd[kept], slopes=True
        )
        return True

    def _moved(self, genes: NDArray[np.intp], change: Array) -> tuple[Array, Array]:
        """Parameters after a change; σ and −σ are the same."""
        sd = np.abs(self.sd[genes] + change[:, -1])
        return self.coefficients[genes] + change[:, :-1], np.clip(sd, LEAST_SD, LARGEST_SD)

    def _directions(self) -> Array:
        """Newton's changes, bounded, and what they are expected to gain; σ stays at a limit that it is drawn to."""
        hessian, gradient = self.hessian.copy(), self.gradient.copy()
        by_sd = np.full(len(self.sd), gradient[self.informed, -1].sum()) if self.shared else gradient[:, -1]
        held = ((self.sd <= LEAST_SD) & (by_sd < 0)) | ((self.sd >= LARGEST_SD) & (by_sd > 0))
        gradient[held, -1] = hessian[held, -1, :] = hessian[held, :, -1] = 0
        hessian[held, -1, -1] = -1
        direction = self._joint_direction(hessian, gradient) if self.shared else _ascent(hessian, gradient)
        gain = 0.5 * np.einsum("pa,pa->p", direction, gradient)
        self.predicted = np.where(self.stopped, 0, gain)
        reach = np.abs(self.observations.design).max(0)
        longest = np.maximum((np.abs(direction[:, :-1]) * reach).max(1), np.abs(direction[:, -1]) / self.sd)
        shrink = np.minimum(1, REACH / np.maximum(longest, 1e-300))
        return direction * (shrink.min() if self.shared else shrink[:, None])

    def _joint_direction(self, hessian: Array, gradient: Array) -> Array:
        """Newton's change with one σ of all genes: its part from the Schur complement, and coefficients that follow."""
        known = self.informed
        inner, cross = hessian[known, :-1, :-1], hessian[known, :-1, -1]
        direction, gradient = np.zeros_like(gradient), gradient[known]
        solved, coupled = _ascent(inner, gradient[:, :-1]), _ascent(inner, cross)
        curvature = -(hessian[known, -1, -1].sum() + np.einsum("pa,pa->", cross, coupled))
        slope = gradient[:, -1].sum() + np.einsum("pa,pa->", cross, solved)
        by_sd = slope / max(abs(curvature), 1e-12)
        direction[known, :-1], direction[:, -1] = solved + coupled * by_sd, by_sd
        return direction

    def cell_values(self) -> Array:
        """Log-likelihood of each cell, (n,), without log y!."""
        seen = self.observations
        values = np.empty(seen.shape[0])

        def block(start: int, stop: int) -> None:
            cells = slice(start, stop)
            eta = seen.offsets[cells] + seen.design[cells] @ self.coefficients.T
            value = count_moments(eta, seen.counts[cells], self.sd, slopes=False).value
            values[cells] = value.sum(1) if seen.observed is None else (value * seen.observed[cells]).sum(1)

        self.pool.map_each(block, list(ranges(0, seen.shape[0], max(1, BLOCK_PAIRS // len(self.sd)))))
        return values


def search_genewise(problem: Genewise, tol: float, max_iter: int, note: Callable[[float], None]) -> tuple[bool, str]:
    """Newton's steps until none is expected to gain `tol` nats; whether that was reached, and why it ended."""
    problem.start()
    note(float(problem.values.sum()))
    for _ in range(max_iter - 1):
        if not problem.step(tol):
            return True, f"converged: a step of Newton's method gains less than {tol:.2g} nats for every gene"
        note(float(problem.values.sum()))
    return False, f"{max_iter} iterations, the maximum"


def _ascent(hessian: Array, gradient: Array) -> Array:
    """−H⁻¹ g of each gene, with curvatures made positive, after scaling: the same in any unit of a covariate."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diagonal(hessian, axis1=1, axis2=2)), 1e-300))
    scaled = -hessian * scale[:, :, None] * scale[:, None, :]
    values, vectors = np.linalg.eigh(np.clip(scaled, -1e12, 1e12))
    values = np.maximum(np.abs(values), LEAST_CURVATURE * np.abs(values).max(1, keepdims=True))
    along = np.einsum("pab,pa->pb", vectors, gradient * scale) / np.maximum(values, 1e-300)
    direction: NDArray[np.float64] = np.einsum("pab,pb->pa", vectors, along) * scale
    return direction
