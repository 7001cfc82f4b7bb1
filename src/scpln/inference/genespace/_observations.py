"""Counts of all cells and genes, of which some may be unobserved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.module.covariances import Covariance

#: Log-rates are cut here, which only happens on the way: a rate of e¹⁰⁰ makes any step that leads to it a rejected one.
MAX_LOG_RATE = 100.0
#: Rate of a gene without counts at the average cell.
UNSEEN_RATE = 1e-8
#: Newton steps of the regression on the design.
REGRESSION_STEPS = 8


@dataclass(frozen=True)
class Observations:
    """Dense counts with offsets and design. An entry that is not observed has count 0 and rate 0, exactly.

    Posteriors in gene space have n × p numbers themselves, so that dense counts are no burden beside them.
    """

    counts: Array  # y, (n, p), 0 where not observed
    offsets: Array  # o, (n, p), or (n, 1) where genes have the same
    design: Array  # X, (n, d)
    observed: NDArray[np.bool_] | None  # (n, p); None where all are
    log_factorial: Array  # Σ_j log y_ij!, (n,)

    @classmethod
    def of(cls, data: CountData) -> Observations:
        """Read the data once."""
        rows = data.rows(0, data.n_cells)
        counts = np.array(rows if isinstance(rows, np.ndarray) else rows.toarray(), np.float64)
        offsets = np.asarray(data.gene_offsets(slice(None)), np.float64)
        observed = None if data.entries is None else data.entries.observed
        if observed is not None:
            counts[~observed], offsets = 0, np.where(observed, offsets, 0)
            observed = None if observed.all() else observed
        if not np.isfinite(offsets).all():
            cell = int(np.flatnonzero(~np.isfinite(offsets).all(1))[0])
            msg = f"offsets of cell {cell} are not finite: say that its entries were not observed, if it was not measured."
            raise ValueError(msg)
        design = np.asarray(data.design, np.float64)
        return cls(counts, offsets, design, observed, gammaln(counts + 1).sum(1))

    def check(self, covariance: Covariance) -> None:
        """Raise an error unless Σ is one of these genes."""
        if covariance.n_genes != self.shape[1]:
            msg = f"covariance has {covariance.n_genes} genes, but the data {self.shape[1]}."
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes, (n, p)."""
        return self.counts.shape[0], self.counts.shape[1]

    def take(self, cells: NDArray[np.intp]) -> Observations:
        """Some of the cells."""
        observed = None if self.observed is None else self.observed[cells]
        return Observations(
            self.counts[cells], self.offsets[cells], self.design[cells], observed, self.log_factorial[cells]
        )

    def rates(self, cells: slice | NDArray[np.intp], log_rates: Array) -> Array:
        """Rates, of log-rates of some cells with offsets, which are overwritten; 0 where not observed."""
        np.minimum(log_rates, MAX_LOG_RATE, out=log_rates)
        rates = np.exp(log_rates, out=log_rates)
        if self.observed is not None:
            rates *= self.observed[cells]
        return rates

    def regress(self) -> Array:
        """Coefficients B (p, d) of a Poisson regression of every gene on the design, without latent state.

        The intercept is log Σ y − log Σ exp(o); further columns take a few guarded Newton steps from there. A gene without
        counts, for which there is no maximum, gets a rate of 1e-8 and no effects.
        """
        total, d = self.counts.sum(0), self.design.shape[1]
        exposure = self.rates(slice(None), np.broadcast_to(self.offsets, self.shape).copy()).sum(0)
        exposure = np.where(exposure > 0, exposure, 1.0)
        coefficients = np.zeros((self.shape[1], d))
        coefficients[:, 0] = np.log(np.where(total > 0, total / exposure, UNSEEN_RATE))
        for _ in range(REGRESSION_STEPS if d > 1 else 0):
            rates = self.rates(slice(None), self.offsets + self.design @ coefficients.T)
            gradient = (self.counts - rates).T @ self.design
            products = (self.design[:, :, None] * self.design[:, None, :]).reshape(len(rates), -1)
            curvature = (rates.T @ products).reshape(-1, d, d) + 1e-2 * np.eye(d)
            step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
            step /= np.maximum(np.abs(step).max(1, keepdims=True), 1)
            coefficients += np.where(total[:, None] > 0, step, 0)
        return coefficients

    def residuals(self, coefficients: Array) -> Array:
        """log(y + 1) − log(rate + 1) at given coefficients, (n, p): small where a rate is, and 0 where not observed."""
        rates = self.rates(slice(None), self.offsets + self.design @ coefficients.T)
        return np.log1p(self.counts) - np.log1p(rates)
