"""Parameters of the Poisson log-normal model of a tree and posteriors of its training samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch

from scpln.module._generative import Generative
from scpln.module._latent_module import LatentModule
from scpln.module.decoders import TreeDecoder
from scpln.module.likelihoods import make_likelihood
from scpln.module.posteriors import GaussianPosterior, as_double
from scpln.module.priors import Normal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from scpln.core import TreeContrasts
    from scpln.module._approximation import Approximation
    from scpln.module._batch import Batch
    from scpln.module.posteriors import Posterior


class PLNTreeModule(LatentModule):
    r"""The Poisson log-normal model of counts on a tree, with the posteriors of its training samples.

    .. math:: z_i \sim N(0, \Sigma), \quad u_i = B x_i + z_i, \quad y_{ij} \sim \text{Poisson}(e^{\eta_{ij}(u_i)})

    with log-rates η of the leaves (`TreeDecoder`).

    Parameters
    ----------
    contrasts
        The tree, with leaves in the order of the genes.
    n_covariates
        Columns d of the design.
    approximation
        Encoder of the posteriors; None if each sample has a Gaussian of its own.

    Attributes
    ----------
    mean, covariance, elbo
        Of the training samples: means of the posteriors of z, (n, p), their covariances as packed lower triangles, (n, p(p+1)/2), and bounds, (n,).
    """

    by_cell: ClassVar[tuple[str, ...]] = ("mean", "covariance", "elbo")

    mean: torch.Tensor
    covariance: torch.Tensor
    elbo: torch.Tensor

    def __init__(self, contrasts: TreeContrasts, n_covariates: int, approximation: Approximation | None = None) -> None:
        p = contrasts.n_leaves
        decoder = TreeDecoder(np.zeros((p, n_covariates)), contrasts)
        super().__init__(Generative(decoder, make_likelihood("poisson", p), Normal(p)).double())
        self.approximation = approximation
        self.set_cells(np.zeros((0, p)), np.zeros((0, p * (p + 1) // 2)), np.zeros(0))
        self.requires_grad_(False)

    @property
    def coefficients(self) -> torch.Tensor:
        """B, (p, d)."""
        return cast("torch.Tensor", self.generative.decoder.coefficients)

    @property
    def scale(self) -> torch.Tensor:
        """Cholesky factor of Σ, (p, p)."""
        return cast("torch.Tensor", self.generative.prior.scale)

    def set_parameters(self, coefficients: ArrayLike, scale: ArrayLike) -> None:
        """Take over B and the Cholesky factor of Σ."""
        self.coefficients.copy_(torch.as_tensor(coefficients))
        self.scale.copy_(torch.as_tensor(scale))

    def set_cells(self, mean: ArrayLike, covariance: ArrayLike, elbo: ArrayLike) -> None:
        """Store the posteriors of the training samples."""
        for name, value in zip(self.by_cell, (mean, covariance, elbo), strict=True):
            self.register_buffer(name, as_double(value))

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over a state, which may have any number of samples."""
        for name in self.by_cell:
            own, given = getattr(self, name), tensors[name]
            if given.shape[1:] != own.shape[1:] or len(given) != len(tensors["elbo"]):
                msg = f"{name!r} of the cells has shape {tuple(given.shape)}, which this model has not."
                raise ValueError(msg)
        self.set_cells(*(torch.empty_like(tensors[name]) for name in self.by_cell))
        self.load_state_dict(tensors)

    def posterior(self, cells: ArrayLike | None = None) -> GaussianPosterior:
        """Posteriors of the training samples, or of those at the given positions."""
        select = slice(None) if cells is None else np.asarray(cells)
        return GaussianPosterior(self.mean[select], self.covariance[select])

    @torch.no_grad()
    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Means of z (n, p) and lower-triangular roots of their covariances (n, p, p) that the encoder gives."""
        assert self.approximation is not None
        found = self.approximation(batch)
        return found.loc, found.scale

    def has_exact_bound(self, posterior: Posterior) -> bool:
        """It is computed without draws."""
        return True
