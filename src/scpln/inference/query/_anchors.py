"""What draws each new cell's state to where cells of the reference are, given who its neighbours there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array

    from ._density import StateDensity

#: Cells that the reference's composition counts for, beside those of a new batch.
REFERENCE_CELLS = 5.0


@dataclass
class Anchors:
    r"""Each cell's part in the components of a density, and its own prior :math:`N(\mu_i, S)` that follows.

    New batches have weights :math:`\pi` of their own, with a Dirichlet prior around those of the reference that is worth
    a few cells: a batch of one cell type is drawn to this type's components and not to the mean of all.

    Given probabilities r of the components, :math:`E_r \log N(z_i; m_k, S)` is that of :math:`N(\mu_i, S)`,
    :math:`\mu_i = \sum_k r_{ik} m_k`, less a constant, since all components share S.

    Parameters
    ----------
    density
        The reference's.
    batches
        Code of each cell's combination of new categories, (n,).
    """

    density: StateDensity
    batches: NDArray[np.intp]
    weights: Array = field(init=False)  # π, (batches, K)
    probabilities: Array = field(init=False)  # r, (n, K)

    def __post_init__(self) -> None:
        self.weights = np.tile(self.density.weights, (self.batches.max(initial=0) + 1, 1))
        self.probabilities = self.weights[self.batches]
        self._sizes = np.bincount(self.batches, minlength=len(self.weights))

    def update(self, states: Array) -> None:
        """Set probabilities, then weights, to their best for the means of states (n, q)."""
        self.probabilities, _ = self.density.assign(states, self.weights[self.batches])
        sums = np.zeros_like(self.weights)
        np.add.at(sums, self.batches, self.probabilities)
        sums += REFERENCE_CELLS * self.density.weights
        self.weights = sums / (self._sizes + REFERENCE_CELLS)[:, None]

    @property
    def means(self) -> Array:
        """μ, (n, q)."""
        return self.probabilities @ self.density.means

    def log_density(self) -> float:
        """What probabilities and weights add to the sum of bounds under N(μ_i, S), in nats."""
        r, weights = self.probabilities, self.weights[self.batches]
        white = np.linalg.solve(np.linalg.cholesky(self.density.covariance), self.density.means.T).T
        spread = (r @ (white**2).sum(1)).sum() - ((r @ white) ** 2).sum()
        divergence = xlogy(r, r).sum() - xlogy(r, weights).sum()
        return float(REFERENCE_CELLS * xlogy(self.density.weights, self.weights).sum() - divergence - 0.5 * spread)
