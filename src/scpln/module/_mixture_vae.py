"""The autoencoder with a posterior for each component of a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scpln.module.posteriors import Conditional, MixturePosterior

from ._autoencoder import AutoencoderModule, Encoded, compose_posterior, effective_kl_weight, packed_covariance
from ._objective import path_loss

if TYPE_CHECKING:
    from scpln.module.encoders import ComponentEncoder
    from scpln.module.flows import Flow
    from scpln.module.posteriors import Draws, Posterior
    from scpln.module.priors import GaussianMixture

    from ._batch import Batch
    from ._generative import Generative
    from ._loss import Loss


class MixtureVAEModule(AutoencoderModule):
    r"""Variational autoencoder with a mixture prior and a posterior for each component of it.

    .. math::
        \text{ELBO}_i = \sum_k q(k \mid y_i) \, E_{q(z \mid y_i, k)}[\log p(y_i \mid z) + \log p(z \mid k)
        - \log q(z \mid y_i, k)] - KL(q(k \mid y_i) \,\|\, \pi)

    The sum over k is exact: all K components of each cell are drawn and decoded.

    Parameters
    ----------
    generative
        Mixture prior, decoder and likelihood.
    encoder
        Gives q(k | y) and the Gaussians of q(z | y, k).
    flow
        Flow on these Gaussians; None for none.
    n_cells
        Number of cells.

    References
    ----------
    C. Grønbech et al. (2020), scVAE: variational auto-encoders for single-cell gene expression data, Bioinformatics
    36(16): 4415-4422. D. Kingma, D. Rezende, S. Mohamed and M. Welling (2014), Semi-supervised learning with deep
    generative models, NeurIPS.
    """

    def __init__(self, generative: Generative, encoder: ComponentEncoder, flow: Flow | None, n_cells: int) -> None:
        super().__init__(generative, n_cells)
        self.components, self.flow = encoder, flow

    @property
    def encoder(self) -> ComponentEncoder:
        """The encoder of all components."""
        return self.components

    @property
    def prior(self) -> GaussianMixture:
        """The mixture p(z)."""
        return self.generative.prior  # type: ignore[return-value]

    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> Loss:
        """Minus the mean bound of a batch."""
        n, k = len(batch), self.encoder.n_components
        logits, loc, scale, features = self.encoder(batch)
        posterior = Conditional(loc, scale, self.flow, None if self.flow is None else features)
        draws: Draws = posterior.draw(self.n_samples)
        states = draws.z.reshape(-1, k, n, draws.z.shape[-1])
        log_likelihood = self.generative.log_likelihood(states, batch)
        log_prior = self.prior.log_prob_given_component(states)
        divergence = (draws.log_q.reshape(log_prior.shape) - log_prior).detach().mean(0)
        log_probabilities = torch.log_softmax(logits, -1)
        known = self._known_components(batch)
        probabilities = log_probabilities.exp() if known is None else _known_or(known, log_probabilities.exp())
        divergence_of_k = (probabilities * (probabilities.clamp_min(1e-30).log() - self.prior.log_weights)).sum(-1)
        total = (probabilities.detach().T * divergence).sum(0) + divergence_of_k.detach()
        weight = effective_kl_weight(total, kl_weight, free_bits * loc.shape[1])
        loss, bounds = path_loss(
            (log_likelihood + weight * log_prior).reshape(len(states), -1),
            posterior,
            draws,
            kl_weight=weight,
            cell_weights=probabilities.detach().T.reshape(-1) * k,
        )
        by_probabilities = (probabilities * bounds.reshape(k, n).T).sum(-1)  # its gradient by q(k | y) only
        loss = loss - (by_probabilities - by_probabilities.detach()).mean() + weight * divergence_of_k.mean()
        if known is not None and bool((known >= 0).any()):
            loss = loss - log_probabilities[known >= 0].gather(1, known[known >= 0][:, None]).sum() / n
        reconstruction = (probabilities.detach().T * log_likelihood.detach().mean(0)).sum(0)
        return self._finish(loss, reconstruction, total)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoded:
        """Probabilities of the components, and means, packed covariances and contexts of each."""
        logits, loc, scale, features = self.encoder(batch)
        k = self.encoder.n_components

        def by_cell(rows: torch.Tensor) -> torch.Tensor:
            return rows.reshape(k, len(batch), -1).transpose(0, 1)

        return {
            "weights": torch.softmax(logits, -1),
            "mean": by_cell(loc),
            "covariance": by_cell(packed_covariance(scale)),
            "context": by_cell(features if self.flow is not None else features[:, :0]),
        }

    def compose(self, encoded: Encoded) -> Posterior:
        """Mixtures of the components' posteriors."""
        mean, covariance, context = (encoded[name].unbind(1) for name in ("mean", "covariance", "context"))
        components = [compose_posterior(*parts, self.flow) for parts in zip(mean, covariance, context, strict=True)]
        return MixturePosterior(encoded["weights"], components)


def _known_or(known: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Probabilities of the components, of which those of labelled cells are certain."""
    certain = torch.nn.functional.one_hot(known.clamp_min(0), probabilities.shape[1]).to(probabilities)
    return torch.where((known >= 0)[:, None], certain, probabilities)
