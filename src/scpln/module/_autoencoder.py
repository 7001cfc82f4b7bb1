"""Autoencoders: a generative model, and an encoder that gives the posterior of any cell."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import LossOutput

from ._conditional import Conditional
from ._encoder import Encoder
from ._flow_posterior import FlowPosterior
from ._gaussian import GaussianPosterior
from ._latent_module import LatentModule
from ._mixture_posterior import MixturePosterior
from ._objective import path_loss

if TYPE_CHECKING:
    from ._approximation import Approximation
    from ._batch import Batch
    from ._conditional import Draws
    from ._encoder import ComponentEncoder
    from ._generative import Generative
    from ._posterior import Posterior
    from ._prior import GaussianMixture
    from .flows import Flow

Encoded = dict[str, torch.Tensor]

#: Learning rate of the parameters of single genes, relative to that of the networks, and standard deviation τ of those
#: of the likelihood (log θ, logit π) around their mean. Both were chosen by the bounds of held-out cells.
GENE_PACE, GENE_SPREAD = 10.0, 0.3
#: These parameters: those that a gene with few counts says little about.
SHRUNK = ("log_inverse_dispersion", "gate_logits")


class AutoencoderModule(LatentModule):
    """What is trained by stochastic gradients on one bound, whatever the prior, the decoder and the posterior.

    Parameters
    ----------
    generative
        Prior, decoder and likelihood.
    n_cells
        Number of cells, which the penalties are shared among.
    """

    def __init__(self, generative: Generative, n_cells: int) -> None:
        super().__init__(generative)
        self.n_cells = n_cells
        self.n_samples = 1

    @abstractmethod
    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> LossOutput:
        """Minus the mean bound of a batch, as something to differentiate, and its two parts for each cell.

        Parameters
        ----------
        batch
            Cells, float32.
        kl_weight
            Weight of the Kullback–Leibler terms in what is differentiated.
        free_bits
            Nats of these that cost nothing in what is differentiated, as a mean over latent dimensions: as long as the
            batch's mean divergence is below their sum, its weight is 0.
        """

    @property
    @abstractmethod
    def encoder(self) -> Encoder | ComponentEncoder:
        """What gives the Gaussians of cells."""

    @abstractmethod
    def encode(self, batch: Batch) -> Encoded:
        """Parameters of the posteriors of a batch of cells, one row for each."""

    @abstractmethod
    def compose(self, encoded: Encoded) -> Posterior:
        """Posteriors from their parameters."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters by how they are trained.

        Those of single genes (intercepts, dispersions) have one number for all cells, whose scale is far from that of a
        network's weights: they learn ten times as fast. They and the prior have penalties of their own, and do not
        decay.
        """
        decoder = self.generative.decoder
        genes = [decoder.coefficients, *self.generative.likelihood.parameters(), *self._deviations_by_batch()]
        prior = list(self.generative.prior.parameters())
        apart = {id(parameter) for parameter in (*genes, *prior)}
        networks = [parameter for parameter in self.parameters() if id(parameter) not in apart]
        return [
            {"params": networks, "pace": 1.0, "decays": True},
            {"params": prior, "pace": 1.0, "decays": False},
            {"params": genes, "pace": GENE_PACE, "decays": False},
        ]

    def _deviations_by_batch(self) -> list[torch.Tensor]:
        by_batch = getattr(self.generative.decoder, "by_batch", {})
        return list(by_batch.values())

    def _penalty(self) -> torch.Tensor:
        r"""What the weak priors of parameters take off the bound of all cells together, in nats.

        Those of the prior of z, and normal distributions of the likelihood's parameters of single genes around their
        mean: :math:`\sum_j (\log \theta_j - \overline{\log \theta})^2 / 2 \tau^2`. A gene with a few dozen counts says
        almost nothing about its dispersion, and by itself would take any.
        """
        total = torch.as_tensor(self.generative.prior.penalty())
        for name, parameter in self.generative.likelihood.named_parameters():
            if name.rpartition(".")[2] not in SHRUNK:
                continue
            total = total + (parameter - parameter.mean()).square().sum() / (2 * GENE_SPREAD**2)
        for deviation in self._deviations_by_batch():
            total = total + deviation.square().sum() / (2 * GENE_SPREAD**2)
        return total

    def posterior(self, batch: Batch) -> Posterior:
        """Posteriors of a batch of cells."""
        return self.compose(self.encode(batch))

    def _known_components(self, batch: Batch) -> torch.Tensor | None:
        """Labels as components of the prior, in training only: what is evaluated is p(y)."""
        return batch.labels if self.training else None

    def _finish(self, loss: torch.Tensor, reconstruction: torch.Tensor, divergence: torch.Tensor) -> LossOutput:
        return LossOutput(
            loss=loss + self._penalty() / self.n_cells,
            reconstruction_loss=-reconstruction.detach(),
            kl_local=divergence.detach(),
            n_obs_minibatch=len(reconstruction),
        )


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
    >>> module.loss(batch).reconstruction_loss["reconstruction_loss"].shape
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

    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> LossOutput:
        """Minus the mean bound of a batch."""
        posterior: Conditional = self.approximation(batch)
        draws = posterior.draw(self.n_samples)
        log_prior = self.generative.prior.log_prob(draws.z, self._known_components(batch))
        log_likelihood = self.generative.log_likelihood(draws.z, batch)
        divergence = (draws.log_q - log_prior).detach().mean(0)
        paid = _paid(divergence, kl_weight, free_bits * posterior.loc.shape[1])
        loss, _ = path_loss(log_likelihood + paid * log_prior, posterior, draws, kl_weight=paid)
        return self._finish(loss, log_likelihood.mean(0), divergence)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoded:
        """Means, packed covariances and contexts of the flow."""
        posterior: Conditional = self.approximation(batch)
        return {
            "mean": posterior.loc,
            "covariance": _packed_covariance(posterior.scale),
            "context": torch.empty((len(batch), 0)) if posterior.context is None else posterior.context,
        }

    def compose(self, encoded: Encoded) -> Posterior:
        """Gaussian or flow posteriors."""
        return _compose(encoded["mean"], encoded["covariance"], encoded["context"], self.approximation.flow)


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

    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> LossOutput:
        """Minus the mean bound of a batch."""
        n, k = len(batch), self.encoder.n_components
        logits, loc, scale, features = self.encoder(batch)
        posterior = Conditional(loc, scale, self.flow, None if self.flow is None else features)
        draws: Draws = posterior.draw(self.n_samples)
        states = draws.z.reshape(-1, k, n, draws.z.shape[-1])
        log_likelihood = self.generative.log_likelihood(states, batch)
        log_prior = self.prior.log_own(states)
        divergence = (draws.log_q.reshape(log_prior.shape) - log_prior).detach().mean(0)
        log_shares = torch.log_softmax(logits, -1)
        known = self._known_components(batch)
        shares = log_shares.exp() if known is None else _known_or(known, log_shares.exp())
        divergence_of_k = (shares * (shares.clamp_min(1e-30).log() - self.prior.log_weights)).sum(-1)
        total = (shares.detach().T * divergence).sum(0) + divergence_of_k.detach()
        paid = _paid(total, kl_weight, free_bits * loc.shape[1])
        loss, bounds = path_loss(
            (log_likelihood + paid * log_prior).reshape(len(states), -1),
            posterior,
            draws,
            kl_weight=paid,
            cell_weights=shares.detach().T.reshape(-1) * k,
        )
        of_shares = (shares * bounds.reshape(k, n).T).sum(-1)  # its gradient by q(k | y) only
        loss = loss - (of_shares - of_shares.detach()).mean() + paid * divergence_of_k.mean()
        if known is not None and bool((known >= 0).any()):
            loss = loss - log_shares[known >= 0].gather(1, known[known >= 0][:, None]).sum() / n
        reconstruction = (shares.detach().T * log_likelihood.detach().mean(0)).sum(0)
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
            "covariance": by_cell(_packed_covariance(scale)),
            "context": by_cell(features if self.flow is not None else features[:, :0]),
        }

    def compose(self, encoded: Encoded) -> Posterior:
        """Mixtures of the components' posteriors."""
        mean, covariance, context = (encoded[name].unbind(1) for name in ("mean", "covariance", "context"))
        components = [_compose(*parts, self.flow) for parts in zip(mean, covariance, context, strict=True)]
        return MixturePosterior(encoded["weights"], components)


def _paid(divergence: torch.Tensor, kl_weight: float, free: float) -> float:
    """Weight of the divergence in the loss: nothing, as long as its mean over cells is below what is free."""
    return kl_weight if not free or float(divergence.mean()) > free else 0.0


def _known_or(known: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Probabilities of the components, of which those of labelled cells are certain."""
    certain = torch.nn.functional.one_hot(known.clamp_min(0), shares.shape[1]).to(shares)
    return torch.where((known >= 0)[:, None], certain, shares)


def _packed_covariance(scale: torch.Tensor) -> torch.Tensor:
    """Lower triangles of L Lᵀ, in float64."""
    rows, columns = torch.tril_indices(*scale.shape[1:], device=scale.device)
    double = scale.double()
    return (double @ double.mT)[:, rows, columns]


def _compose(mean: torch.Tensor, covariance: torch.Tensor, context: torch.Tensor, flow: Flow | None) -> Posterior:
    gaussian = GaussianPosterior(mean, covariance)
    if flow is None:
        return gaussian
    return FlowPosterior(gaussian, copy.deepcopy(flow).cpu().double(), context)
