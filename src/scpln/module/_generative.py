"""The generative model: a prior, a decoder and a likelihood, joined."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch

    from ._batch import Batch
    from ._decoder import LinearDecoder
    from .likelihoods import Likelihood


class Generative(nn.Module):
    r"""Counts from a standard normal latent state: :math:`\log p(y, z) = \log p(y \mid \eta(z)) + \log N(z; 0, I)`.

    Parameters
    ----------
    decoder
        From latent states and a batch to log-rates η.
    likelihood
        Distribution of the counts.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from scpln.module import Batch, LinearDecoder, make_likelihood
    >>> model = Generative(LinearDecoder(np.zeros((4, 1)), np.ones((4, 2))), make_likelihood("poisson", 4))
    >>> batch = Batch.from_arrays(np.ones((3, 4)), np.zeros(3), np.ones((3, 1)), dtype=torch.float64)
    >>> model.log_joint(torch.zeros(10, 3, 2, dtype=torch.float64), batch).shape  # ten draws of each cell
    torch.Size([10, 3])
    """

    decoder: LinearDecoder
    likelihood: Likelihood

    def __init__(self, decoder: LinearDecoder, likelihood: Likelihood) -> None:
        super().__init__()
        self.decoder = decoder
        self.likelihood = likelihood

    def log_joint(self, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Log p(y, z), (..., n), of latent states z (..., n, q), in nats."""
        log_prior = -0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)
        return self.likelihood.log_likelihood(self.decoder(z, batch), batch.counts) + log_prior
