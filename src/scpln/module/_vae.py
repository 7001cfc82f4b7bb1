"""The autoencoder with one posterior for each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from scpln.module.encoders import Encoder

from ._autoencoder import AutoencoderModule, Encoded, compose_posterior, effective_kl_weight, packed_covariance
from ._objective import path_loss

if TYPE_CHECKING:
    from scpln.module.posteriors import Conditional, Posterior
    from scpln.module.priors import GaussianMixture

    from ._approximation import Approximation
    from ._batch import Batch
    from ._generative import Generative
    from ._loss import Loss


class VAEModule(AutoencoderModule):
    r"""Variational autoencoder with any prior p(z), a mixture's sum over components being exact.

    .. math:: \text{ELBO}_i = E_{q(z \mid y_i)}[\log p(y_i \mid z) + \log p(z) - \log q(z \mid y_i)]

    Parameters
    ----------
    generative
        Prior, decoder and likelihood.
    approximation
        Encoder, with a flow if there is one.
    n_cells
        Number of cells.

    Examples
    --------
    >>> import numpy as np
    >>> from scpln.module import Approximation, Batch, Encoder, Generative, MLPDecoder, make_likelihood
    >>> generative = Generative(MLPDecoder(5, 1, 2, hidden=(8,)), make_likelihood("nb", 5))
    >>> module = VAEModule(generative, Approximation(2, Encoder(5, 1, 2, hidden=(8,)), flow=None), n_cells=3)
    >>> batch = Batch.from_arrays(np.eye(3, 5), np.zeros(3), np.ones((3, 1)))
    >>> module.loss(batch).parts["reconstruction_loss"].shape
    torch.Size([3])
    >>> module.posterior(batch)
    GaussianPosterior(3 cells, 2 latent dimensions)
    """

    def __init__(self, generative: Generative, approximation: Approximation, n_cells: int) -> None:
        super().__init__(generative, n_cells)
        self.approximation = approximation

    @property
    def encoder(self) -> Encoder:
        """The encoder of the approximation."""
        assert isinstance(self.approximation.source, Encoder)
        return self.approximation.source

    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> Loss:
        """Minus the mean bound of a batch."""
        posterior: Conditional = self.approximation(batch)
        draws = posterior.draw(self.n_samples)
        log_prior = self._log_prior(draws.z, batch)
        log_likelihood = self.generative.log_likelihood(draws.z, batch)
        divergence = (draws.log_q - log_prior).detach().mean(0)
        weight = effective_kl_weight(divergence, kl_weight, free_bits * posterior.loc.shape[1])
        loss, _ = path_loss(log_likelihood + weight * log_prior, posterior, draws, kl_weight=weight)
        return self._finish(loss, log_likelihood.mean(0), divergence)

    def _log_prior(self, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Log p(z); with labels, whose prior is a mixture, log p(z, k) of the cells that have one."""
        known = self._known_components(batch)
        if known is None:
            return self.generative.prior.log_prob(z)
        return cast("GaussianMixture", self.generative.prior).log_prob_labelled(z, known)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoded:
        """Means, packed covariances and contexts of the flow."""
        posterior: Conditional = self.approximation(batch)
        return {
            "mean": posterior.loc,
            "covariance": packed_covariance(posterior.scale),
            "context": torch.empty((len(batch), 0)) if posterior.context is None else posterior.context,
        }

    @torch.no_grad()
    def encode_means(self, batch: Batch) -> torch.Tensor | None:
        """Means of the encoder's Gaussians, which a flow would move."""
        return None if self.approximation.flow is not None else self.approximation(batch).loc

    def compose(self, encoded: Encoded) -> Posterior:
        """Gaussian or flow posteriors."""
        return compose_posterior(encoded["mean"], encoded["covariance"], encoded["context"], self.approximation.flow)
