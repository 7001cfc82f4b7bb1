"""Parameters of PLN-PCA, and what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ._gaussian import GaussianPosterior, as_double

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_LARGEST_LOG_RATE = 40.0


class PLNPCAModule(nn.Module):
    r"""PLN-PCA with a Gaussian posterior for every training cell.

    .. math::
        z_i \sim N(0, I_q), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j, \quad
        y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    Parameters
    ----------
    coefficients
        B, (p, d).
    loadings
        C, (p, q).
    mean
        Posterior means m of the training cells, (n, q).
    covariance
        Lower triangles of their posterior covariances V, (n, q(q+1)/2).
    elbo
        Each training cell's contribution to the bound, in nats, (n,).
    rotation
        Axes R (q, q) in which a mean-field posterior is diagonal: z there is z R^T in the coordinates of the loadings.

    Examples
    --------
    >>> import numpy as np
    >>> module = PLNPCAModule.empty(n_genes=4, n_covariates=1, n_latent=2)
    >>> module.rates(np.ones((3, 1)), np.zeros((3, 2)), np.zeros((3, 3)))
    array([[1., 1., 1., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.]])
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    elbo: torch.Tensor
    rotation: torch.Tensor

    def __init__(
        self,
        coefficients: ArrayLike | torch.Tensor,
        loadings: ArrayLike | torch.Tensor,
        mean: ArrayLike | torch.Tensor,
        covariance: ArrayLike | torch.Tensor,
        elbo: ArrayLike | torch.Tensor,
        rotation: ArrayLike | torch.Tensor,
    ) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.as_tensor(coefficients), requires_grad=False)
        self.loadings = nn.Parameter(torch.as_tensor(loadings), requires_grad=False)
        for name, value in {"mean": mean, "covariance": covariance, "elbo": elbo, "rotation": rotation}.items():
            self.register_buffer(name, torch.as_tensor(value))

    @classmethod
    def empty(cls, n_genes: int, n_covariates: int, n_latent: int) -> PLNPCAModule:
        """Module of a model that is not trained: zeros, and no cells."""
        packed = n_latent * (n_latent + 1) // 2
        return cls(
            np.zeros((n_genes, n_covariates)),
            np.zeros((n_genes, n_latent)),
            np.zeros((0, n_latent), np.float32),
            np.zeros((0, packed), np.float32),
            np.zeros(0),
            np.eye(n_latent),
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.coefficients.device

    def posterior(self, cells: ArrayLike | None = None) -> GaussianPosterior:
        """Posteriors of the training cells, or of those at the given positions."""
        select = slice(None) if cells is None else np.asarray(cells)
        return GaussianPosterior(self.mean[select], self.covariance[select])

    def rates(
        self, design: ArrayLike, mean: ArrayLike, covariance: ArrayLike | None = None, genes: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        r"""Rates without size factors, (n, p) or (n, genes).

        With a covariance, their posterior mean
        :math:`E[e^{x_i \cdot B_j + z_i \cdot C_j}] = e^{x_i \cdot B_j + m_i \cdot C_j + \frac12 C_j^T V_i C_j}`;
        without, the rate at z = `mean`, which may have samples as leading dimensions (..., n, q).
        """
        select = slice(None) if genes is None else np.asarray(genes)
        b, c = as_double(self.coefficients)[select], as_double(self.loadings)[select]
        eta = as_double(design) @ b.T + as_double(mean) @ c.T
        if covariance is not None:
            rows, columns = torch.tril_indices(c.shape[1], c.shape[1])
            half_squares = c[:, rows] * c[:, columns] * torch.where(rows == columns, 0.5, 1.0)
            eta += as_double(covariance) @ half_squares.T
        return eta.exp_().numpy()

    def draw(self, rates: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Poisson counts with these rates; a rate beyond e⁴⁰ draws at e⁴⁰, where the generator still works."""
        return rng.poisson(np.minimum(rates, np.exp(_LARGEST_LOG_RATE)))
