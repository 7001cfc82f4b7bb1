"""Posteriors that are points: the vectors of a cell's codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scpln.module.posteriors import Posterior

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class CodePosterior(Posterior):
    """States of cells that are known: all probability is at the vectors of their codes.

    Parameters
    ----------
    codes
        Codes, (n, M).
    vectors
        Their vectors, (n, M·D).

    Examples
    --------
    >>> posterior = CodePosterior(np.array([[0], [1]]), np.array([[0.5], [2.0]]))
    >>> posterior.mean[1], posterior.variance[1], posterior.log_prob([[0.5], [0.0]])
    (array([2.]), array([0.]), array([  0., -inf]))
    """

    def __init__(self, codes: NDArray[np.int64], vectors: NDArray[np.float64]) -> None:
        self.codes, self._vectors = codes, np.asarray(vectors, dtype=np.float64)

    @property
    def n_latent(self) -> int:
        """Numbers of a state, M·D."""
        return self._vectors.shape[1]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The states, (n, q)."""
        return self._vectors

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Zeros, (n, q, q)."""
        return np.zeros((len(self), self.n_latent, self.n_latent))

    @property
    def variance(self) -> NDArray[np.float64]:
        """Zeros, (n, q)."""
        return np.zeros_like(self._vectors)

    def reparameterize(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The states again for each draw, and logarithms of their probability, 0."""
        z = torch.from_numpy(self._vectors).expand(*noise.shape[:-1], -1)
        return z, z.new_zeros(z.shape[:-1])

    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        """Logarithms of probabilities: 0 of the states themselves, −∞ of others, (..., n)."""
        return np.where((np.asarray(z) == self._vectors).all(-1), 0.0, -np.inf)

    def __getitem__(self, cells: Any) -> CodePosterior:
        """Posteriors of some of the cells."""
        cells = np.atleast_1d(np.arange(len(self))[cells])
        return CodePosterior(self.codes[cells], self._vectors[cells])

    def __len__(self) -> int:
        return len(self._vectors)

    def __repr__(self) -> str:
        return f"CodePosterior({len(self):,} cells, {self.codes.shape[1]} codes)"
