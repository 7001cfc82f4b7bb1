"""What the counts of cells say of their latent states: Gaussian posteriors divided by the prior that they were found under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from scpln.core import _linalg as linalg

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Sites:
    r"""Likelihoods of the latent states of n cells, :math:`\ell_i(z) = N(z; m_i, V_i) / N(z; 0, I)`.

    They may be flat in some directions, where V has an eigenvalue of 1: their precision V⁻¹ − I is then 0.
    Under N(0, I) itself, each has the marginal :math:`\int N(z; 0, I) \ell_i(z) dz = 1`, so that log-marginals under
    another prior are what a cell gains by it, in nats.

    Parameters
    ----------
    mean
        Posterior means m under N(0, I), (n, q).
    precision
        V⁻¹ − I, (q, q, n).
    constant
        Log-likelihood at m, :math:`\frac12 \|m\|^2 - \frac12 \log\det V`, (n,).
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    constant: NDArray[np.float64]

    @classmethod
    def of(cls, mean: ArrayLike, covariance: ArrayLike) -> Self:
        """Those of posteriors under N(0, I): means m (n, q) and packed covariances V (n, q(q+1)/2).

        Counts can only add to what the prior knows: V is at most I, and what rounding leaves above it is taken off.
        """
        m = np.array(mean, np.float64)
        q = m.shape[1]
        full = linalg.unpack(np.asarray(covariance, np.float64), q)
        values, axes = np.linalg.eigh(full.transpose(2, 0, 1))
        values = np.clip(values, 1e-14, 1.0)
        precision = np.einsum("nak,nk,nbk->abn", axes, 1 / values - 1, axes)
        return cls(m, np.ascontiguousarray(precision), 0.5 * (m**2).sum(1) - 0.5 * np.log(values).sum(1))

    @property
    def n_latent(self) -> int:
        """Latent dimensions q."""
        return int(self.mean.shape[1])

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, cells: Any) -> Sites:
        """Those of some of the cells."""
        return Sites(self.mean[cells], self.precision[:, :, cells], self.constant[cells])
