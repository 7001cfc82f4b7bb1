"""Bounds of SCVI, computed apart from it: its encoder and decoder, and an exact log-probability in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

#: Draws × cells × genes that are in memory at a time.
_ENTRIES = 1e7


def nb_log_prob(y: torch.Tensor, log_mu: torch.Tensor, log_theta: torch.Tensor) -> torch.Tensor:
    r"""Log-probability of negative binomial counts with means μ and inverse dispersions θ, summed over genes.

    .. math::
        \log\Gamma(y + \theta) - \log\Gamma(\theta) - \log y! + y (\log\mu - l) + \theta (\log\theta - l), \quad
        l = \log(\mu + \theta)

    y is cells × genes, log μ draws × cells × genes, log θ genes; the result draws × cells. The first three terms are the
    same for every draw.
    """
    theta = log_theta.exp()
    same = torch.lgamma(y + theta) - torch.lgamma(theta) - torch.lgamma(y + 1)
    total = torch.logaddexp(log_mu, log_theta)
    return same.sum(-1) + (y * (log_mu - total) + theta * (log_theta - total)).sum(-1)


@torch.inference_mode()
def scvi_bounds(model, adata: AnnData, *, n_samples: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    r"""ELBO and importance-weighted bound of each cell, given its total count and its batch, nats, both (n,).

    Of draws z_k ~ q(z | y): the mean and the log of the mean of :math:`p(y \mid z_k) N(z_k; 0, I) / q(z_k \mid y)`.
    """
    module = model.module.eval()
    generator = torch.Generator().manual_seed(seed)
    elbo, iw = [], []
    n_cells = max(1, int(_ENTRIES / (n_samples * adata.n_vars)))
    for tensors in model._make_data_loader(adata=model._validate_anndata(adata), batch_size=n_cells, shuffle=False):
        inputs = module._get_inference_input(tensors)
        inferred = module.inference(**inputs)
        q = inferred["qz"]
        noise = torch.randn((n_samples, *q.loc.shape), generator=generator, dtype=torch.float64)
        mean, scale = q.loc.double(), q.scale.double()
        z = mean + scale * noise
        log_prior_ratio = (0.5 * (noise**2 - z**2) + scale.log()).sum(-1)
        log_mu, log_theta = _decode(module, tensors, inferred["library"], z.float())
        weights = nb_log_prob(tensors["X"].double(), log_mu, log_theta) + log_prior_ratio
        elbo.append(weights.mean(0))
        iw.append(torch.logsumexp(weights, 0) - np.log(n_samples))
    return {"elbo": torch.cat(elbo).numpy(), "iw": torch.cat(iw).numpy()}


def _decode(module, tensors, library: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-means (draws × cells × genes) and log θ (genes); draws go through the decoder as if they were cells."""
    n_samples, n_cells, _ = z.shape
    again = torch.arange(n_cells).repeat(n_samples)
    outputs = module.generative(
        z=z.flatten(0, 1), library=library[again], batch_index=tensors["batch"][again], y=tensors["labels"][again]
    )
    log_mu = outputs["px"].mu.double().log().unflatten(0, (n_samples, n_cells))
    return log_mu, module.px_r.double()
