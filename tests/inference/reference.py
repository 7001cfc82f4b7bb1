"""The bound written out in torch, float64, as an independent reference for values and gradients."""

import numpy as np
import torch

from scpln.inference import CountData


def unpack(packed: np.ndarray, q: int) -> torch.Tensor:
    rows, columns = np.tril_indices(q)
    full = torch.zeros(len(packed), q, q, dtype=torch.float64)
    values = torch.as_tensor(np.asarray(packed, np.float64))
    full[:, rows, columns] = values
    full[:, columns, rows] = values
    return full


def elbo(
    data: CountData,
    coefficients: torch.Tensor,
    loadings: torch.Tensor,
    mean: torch.Tensor,
    covariance: torch.Tensor,
) -> torch.Tensor:
    """Bound of every cell; `covariance` is (n, q, q)."""
    counts = torch.as_tensor(np.asarray(data.rows(0, data.n_cells).todense()), dtype=torch.float64)
    offsets = data.offsets[:, None] if data.groups is None else data.offsets[:, data.groups]
    linear = torch.as_tensor(offsets) + torch.as_tensor(data.design) @ coefficients.T + mean @ loadings.T
    half_variance = 0.5 * torch.einsum("pa,nab,pb->np", loadings, covariance, loadings)
    expected = counts * linear - torch.exp(linear + half_variance) - torch.lgamma(counts + 1)
    prior = torch.distributions.MultivariateNormal(
        torch.zeros(mean.shape[1], dtype=torch.float64), torch.eye(mean.shape[1], dtype=torch.float64)
    )
    posterior = torch.distributions.MultivariateNormal(mean, covariance)
    return expected.sum(1) - torch.distributions.kl_divergence(posterior, prior)
