"""Parameters of the Poisson log-normal model of series and posteriors of its training samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from scpln.module.posteriors import GaussianPosterior

from ._pln import PLNModule

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class PLNARModule(PLNModule):
    r"""The Poisson log-normal model of series, with the posteriors of its training samples.

    Of each sample it is the model in gene space, with the stationary covariance Σ. Samples of a series depend on each other by φ.

    Parameters
    ----------
    n_genes, n_covariates, likelihood
        As of `PLNModule`.

    Attributes
    ----------
    phi, time_step
        Autoregression φ of each gene over a time step, (p,), and how long that is.
    mean, covariance, follows, elbo
        Of the training samples: means of the posteriors of z, their covariances as packed lower triangles, (n, p(p+1)/2), the position of the sample
        before each, with the time since then (−1 and 0 of the first of a series), (n, 2), and shares of the bound.
    """

    by_cell: ClassVar[tuple[str, ...]] = ("mean", "covariance", "follows", "elbo")

    covariance: torch.Tensor
    follows: torch.Tensor
    phi: torch.Tensor
    time_step: torch.Tensor

    def __init__(self, n_genes: int, n_covariates: int, *, likelihood: str = "poisson") -> None:
        super().__init__(n_genes, n_covariates, likelihood=likelihood)
        packed = n_genes * (n_genes + 1) // 2
        self.set_cells(*(np.zeros((0, *shape)) for shape in ((n_genes,), (packed,), (2,), ())))
        self.set_autoregression(np.zeros(n_genes), 1.0)

    def set_autoregression(self, phi: ArrayLike, time_step: float) -> None:
        """Take over φ (p,), and how long a time step is."""
        self.register_buffer("phi", torch.as_tensor(np.array(phi, np.float64)))
        self.register_buffer("time_step", torch.tensor(time_step, dtype=torch.float64))

    def posterior(self, cells: ArrayLike | None = None) -> GaussianPosterior:  # type: ignore[override]
        """Posteriors of the training samples, or of those at the given positions, each by itself."""
        select = slice(None) if cells is None else np.asarray(cells)
        return GaussianPosterior(self.mean[select], self.covariance[select])
