"""Autoencoders: a generative model, and an encoder that gives the posterior of any cell."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch

from scpln.module.likelihoods import Gaussian
from scpln.module.posteriors import FlowPosterior, GaussianPosterior

from ._latent_module import LatentModule
from ._loss import Loss
from ._standardize import Unit

if TYPE_CHECKING:
    from scpln.module.encoders import CodeEncoder, ComponentEncoder, Encoder
    from scpln.module.flows import Flow
    from scpln.module.posteriors import Posterior

    from ._batch import Batch
    from ._generative import Generative


Encoded = dict[str, torch.Tensor]

#: Learning rate of the parameters of single genes, relative to that of the networks, and standard deviation τ of those
#: of the likelihood (log θ, logit π) around their mean. Both were chosen by the bounds of held-out cells.
GENE_LR_FACTOR, GENE_SPREAD = 10.0, 0.3


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
    def loss(self, batch: Batch, *, kl_weight: float = 1.0, free_bits: float = 0.0) -> Loss:
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

    def start_in_unit(self, log_unit: float) -> None:
        """Let networks and likelihood see real values in the unit of their spread, given by its logarithm."""
        Unit.set(self, log_unit)
        likelihood = self.generative.likelihood
        assert isinstance(likelihood, Gaussian)
        likelihood.rescale(log_unit - float(likelihood.log_unit))

    @property
    def unit(self) -> float:
        """Unit of the decoder's parameters; 1 for log-rates of counts."""
        return next((float(part.value) for part in self.generative.modules() if isinstance(part, Unit)), 1.0)

    @property
    @abstractmethod
    def encoder(self) -> Encoder | ComponentEncoder | CodeEncoder:
        """What gives the Gaussians of cells, or the vectors that their codes are nearest to."""

    @abstractmethod
    def encode(self, batch: Batch) -> Encoded:
        """Parameters of the posteriors of a batch of cells, one row for each."""

    def encode_means(self, batch: Batch) -> torch.Tensor | None:
        """Posterior means of a batch of cells, (n, q), alone; None where they follow from more than the encoder gives."""
        return None

    @abstractmethod
    def compose(self, encoded: Encoded) -> Posterior:
        """Posteriors from their parameters."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters by how they are trained.

        Those of single genes (intercepts, dispersions) have one number for all cells, whose scale is far from that of a
        network's weights: their learning rate is ten times as large. They and the prior have penalties, and do not
        decay.
        """
        decoder = self.generative.decoder
        genes = [*decoder.gene_parameters, *self.generative.likelihood.parameters(), *decoder.deviations_by_batch]
        prior = list(self.generative.prior.parameters())
        apart = {id(parameter) for parameter in (*genes, *prior)}
        networks = [parameter for parameter in self.parameters() if id(parameter) not in apart]
        return [
            {"params": networks, "lr_factor": 1.0, "decays": True},
            {"params": prior, "lr_factor": 1.0, "decays": False},
            {"params": genes, "lr_factor": GENE_LR_FACTOR, "decays": False},
        ]

    def _penalty(self) -> torch.Tensor:
        r"""What the weak priors of parameters take off the bound of all cells together, in nats.

        Those of the prior of z, and normal distributions of the likelihood's parameters of single genes around their
        mean: :math:`\sum_j (\log \theta_j - \overline{\log \theta})^2 / 2 \tau^2`. A gene with a few dozen counts says
        almost nothing about its dispersion, and by itself would take any.
        """
        total = torch.as_tensor(self.generative.prior.penalty())
        for parameter in self.generative.likelihood.shrunk_parameters():
            total = total + (parameter - parameter.mean()).square().sum() / (2 * GENE_SPREAD**2)
        for deviation in self.generative.decoder.deviations_by_batch:
            total = total + deviation.square().sum() / (2 * GENE_SPREAD**2)
        return total

    def posterior(self, batch: Batch) -> Posterior:
        """Posteriors of a batch of cells."""
        return self.compose(self.encode(batch))

    def _known_components(self, batch: Batch) -> torch.Tensor | None:
        """Labels as components of the prior, in training only: what is evaluated is p(y)."""
        return batch.labels if self.training else None

    def _finish(self, loss: torch.Tensor, reconstruction: torch.Tensor, divergence: torch.Tensor) -> Loss:
        parts = {"reconstruction_loss": -reconstruction.detach(), "kl_local": divergence.detach()}
        return Loss(loss + self._penalty() / self.n_cells, parts)


def effective_kl_weight(divergence: torch.Tensor, kl_weight: float, free: float) -> float:
    """Weight of the divergence in the loss: nothing, as long as its mean over cells is below what is free."""
    return kl_weight if not free or float(divergence.mean()) > free else 0.0


def packed_covariance(scale: torch.Tensor) -> torch.Tensor:
    """Lower triangles of L Lᵀ, in float64."""
    rows, columns = torch.tril_indices(*scale.shape[1:], device=scale.device)
    double = scale.double()
    return (double @ double.mT)[:, rows, columns]


def compose_posterior(
    mean: torch.Tensor, covariance: torch.Tensor, context: torch.Tensor, flow: Flow | None
) -> Posterior:
    gaussian = GaussianPosterior(mean, covariance)
    if flow is None:
        return gaussian
    return FlowPosterior(gaussian, copy.deepcopy(flow).cpu().double(), context)
