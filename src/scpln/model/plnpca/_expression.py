"""Latent states seen from the genes: principal components of the expression that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from sklearn.utils.extmath import randomized_svd

from scpln.core import ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.module import PLNPCAModule, Posterior

#: Cells that the axes are computed from, at most, and expression values in memory at a time.
MOST_CELLS, MOST_VALUES = 20_000, 4_000_000


@dataclass(frozen=True)
class ExpressionSpace:
    r"""Principal components of what cells express without noise, size factors and covariates.

    .. math:: E_{ij} = \log(1 + \mathrm{E}[e^{b_j + z_i \cdot C_j}]), \quad z_i \sim q(z_i \mid y_i)

    with b the log-rates at average covariates. Distances between cells are then about as many transcripts as a difference of
    states makes, which is what neighbours should agree in: a direction of the latent space in which only rare genes
    differ counts little, however large their loadings. Of real values, E is the expected value itself.

    Parameters
    ----------
    base
        b, (p,).
    center, axes
        Mean of E (p,), and orthonormal axes (p, k), in the order of the variance along them.
    """

    base: NDArray[np.float64]
    center: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, module: PLNPCAModule, base: NDArray[np.float64], n_components: int) -> Self:
        """The space of a module's training cells."""
        n = len(module.elbo)
        cells = np.unique(np.linspace(0, n - 1, MOST_CELLS).astype(int)) if n > MOST_CELLS else np.arange(n)
        values = _expression(module, module.posterior(cells), base)
        center = values.mean(0)
        values -= center
        k = min(n_components, *values.shape)
        _, _, rows = randomized_svd(values, k, n_oversamples=10, n_iter=4, random_state=0)
        signs = np.sign(rows[np.arange(k), np.abs(rows).argmax(1)])
        return cls(
            base, center.astype(np.float64), (rows * np.where(signs == 0, 1, signs)[:, None]).T.astype(np.float64)
        )

    def coordinates(self, module: PLNPCAModule, posterior: Posterior) -> NDArray[np.float32]:
        """Components of cells with the given posteriors, (n, k)."""
        size = max(1, MOST_VALUES // max(len(self.base), 1))
        parts = [
            (_expression(module, posterior[start:stop], self.base) - self.center) @ self.axes
            for start, stop in ranges(0, len(posterior), size)
        ]
        return np.vstack([np.zeros((0, self.axes.shape[1])), *parts]).astype(np.float32)


def _expression(module: PLNPCAModule, posterior: Posterior, base: NDArray[np.float64]) -> NDArray[np.float32]:
    """E of cells, (n, p), in blocks."""
    result = np.empty((len(posterior), len(base)), np.float32)
    for start, stop in ranges(0, len(posterior), max(1, MOST_VALUES // max(len(base), 1))):
        part = posterior[start:stop]
        covariance = part.packed_covariance if part.is_gaussian else None
        rates = module.rates_at(base, part.mean, covariance)
        result[start:stop] = np.log1p(rates) if module.generative.likelihood.is_count else rates
    return result
