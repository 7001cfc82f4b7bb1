"""The generative model: a prior, a decoder and a likelihood, joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from scpln.module.priors import StandardNormal

if TYPE_CHECKING:
    import torch

    from scpln.module.decoders import Decoder
    from scpln.module.likelihoods import Likelihood
    from scpln.module.priors import Prior

    from ._batch import Batch


class Generative(nn.Module):
    r"""Counts from a latent state: :math:`\log p(y, z) = \log p(y \mid \eta(z)) + \log p(z)`.

    Parameters
    ----------
    decoder
        From latent states and a batch to log-rates η.
    likelihood
        Distribution of the counts.
    prior
        Distribution of the latent states; by default N(0, I).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from scpln.module import Batch, LinearDecoder, make_likelihood
    >>> model = Generative(LinearDecoder(np.zeros((4, 1)), np.ones((4, 2))), make_likelihood("poisson", 4))
    >>> batch = Batch.from_arrays(np.ones((3, 4)), np.zeros(3), np.ones((3, 1)), dtype=torch.float64)
    >>> model.log_joint(torch.zeros(10, 3, 2, dtype=torch.float64), batch).shape  # ten draws of each cell
    torch.Size([10, 3])
    """

    decoder: Decoder
    likelihood: Likelihood
    prior: Prior

    def __init__(self, decoder: Decoder, likelihood: Likelihood, prior: Prior | None = None) -> None:
        super().__init__()
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = StandardNormal(decoder.n_latent) if prior is None else prior

    def log_likelihood(self, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Log p(y | z), (..., n), of latent states z (..., n, q), in nats."""
        eta, deviations = self.decoder.decode(z, batch)
        return self.likelihood.log_likelihood(eta, batch.counts, deviations)

    def log_joint(self, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Log p(y, z), (..., n), of latent states z (..., n, q), in nats."""
        return self.log_likelihood(z, batch) + self.prior.log_prob(z)
