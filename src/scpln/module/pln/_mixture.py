"""Parameters of a mixture of Poisson log-normal models in gene space and posteriors of its training cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch

from scpln.module._generative import Generative
from scpln.module._latent_module import LatentModule
from scpln.module.decoders import IdentityDecoder
from scpln.module.likelihoods import expected_rate, make_likelihood, reaches_bound
from scpln.module.posteriors import GeneSpacePosterior, MixturePosterior, as_double
from scpln.module.priors import NormalMixture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.module.posteriors import Posterior


class PLNMixtureModule(LatentModule):
    r"""A mixture of Poisson log-normal models in gene space, with the posteriors of its training cells.

    .. math::
        z_i \sim \sum_k \pi_k N(m_k, \Sigma_k), \quad \eta_{ij} = o_{ij} + x_i \cdot B_j + z_{ij},
        \quad y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    Means are those of the components less their average, which is the intercept: :math:`\sum_k \pi_k m_k = 0`.

    Parameters
    ----------
    n_genes, n_covariates, n_components
        Genes p, columns d of the design and components K.
    diagonal
        Whether posteriors have diagonal covariances.

    Attributes
    ----------
    parts
        What the Σ_k are made of that is a result itself, such as loadings, (K, p, k); (K, p, 0) for nothing.
    mean, variance, weight
        Of the training cells' posteriors of z under each component: means, variances, and the weights that their covariances follow
        from, (n, K, p) each.
    responsibilities
        Probabilities of the components, (n, K).
    elbo
        Each training cell's contribution to the bound, in nats, (n,).
    """

    by_cell: ClassVar[tuple[str, ...]] = ("mean", "variance", "weight", "responsibilities", "elbo")

    parts: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    weight: torch.Tensor
    responsibilities: torch.Tensor
    elbo: torch.Tensor

    def __init__(self, n_genes: int, n_covariates: int, n_components: int, *, diagonal: bool = False) -> None:
        decoder = IdentityDecoder(np.zeros((n_genes, n_covariates)))
        prior = NormalMixture(n_components, n_genes)
        super().__init__(Generative(decoder, make_likelihood("poisson", n_genes), prior).double())
        self.diagonal = diagonal
        self.register_buffer("parts", as_double(np.zeros((n_components, n_genes, 0))))
        nothing = np.zeros((0, n_components, n_genes))
        self.set_cells(nothing, nothing, nothing, nothing[:, :, 0], np.zeros(0))
        self.requires_grad_(False)

    @property
    def prior(self) -> NormalMixture:
        """The mixture p(z)."""
        return cast("NormalMixture", self.generative.prior)

    @property
    def n_components(self) -> int:
        """Components K."""
        return self.prior.n_components

    @property
    def coefficients(self) -> torch.Tensor:
        """B, (p, d)."""
        return cast("torch.Tensor", self.generative.decoder.coefficients)

    def set_parameters(
        self, coefficients: ArrayLike, weights: ArrayLike, loc: ArrayLike, scale: ArrayLike, parts: ArrayLike
    ) -> None:
        """Take over B (p, d), and weights (K,), means (K, p), Cholesky factors (K, p, p) and what they are made of, of the components."""
        self.coefficients.copy_(torch.as_tensor(coefficients))
        self.prior.place(weights, loc, scale)
        self.register_buffer("parts", as_double(parts))

    def set_cells(
        self, mean: ArrayLike, variance: ArrayLike, weight: ArrayLike, responsibilities: ArrayLike, elbo: ArrayLike
    ) -> None:
        """Store the posteriors of the training cells."""
        for name, value in zip(self.by_cell, (mean, variance, weight, responsibilities, elbo), strict=True):
            self.register_buffer(name, torch.as_tensor(value))

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over a state, which may have any number of cells."""
        for name in self.by_cell:
            own, given = getattr(self, name), tensors[name]
            if given.shape[1:] != own.shape[1:] or len(given) != len(tensors["elbo"]):
                msg = f"{name!r} of the cells has shape {tuple(given.shape)}, which this model has not."
                raise ValueError(msg)
        self.set_cells(*(torch.empty_like(tensors[name]) for name in self.by_cell))
        parts = tensors["parts"]
        if parts.ndim != 3 or parts.shape[:2] != self.parts.shape[:2]:
            msg = f"'parts' of Σ has shape {tuple(parts.shape)}, which this model has not."
            raise ValueError(msg)
        self.register_buffer("parts", torch.empty_like(parts))
        self.load_state_dict(tensors)

    def posterior(self, cells: ArrayLike | None = None) -> MixturePosterior:
        """Posteriors of the training cells, or of those at the given positions."""
        select = slice(None) if cells is None else np.asarray(cells)
        parts = self.mean[select], self.variance[select], self.weight[select], self.responsibilities[select]
        return self.compose(*parts)

    def compose(
        self,
        mean: ArrayLike | torch.Tensor,
        variance: ArrayLike | torch.Tensor,
        weight: ArrayLike | torch.Tensor,
        responsibilities: ArrayLike | torch.Tensor,
    ) -> MixturePosterior:
        """Posteriors with given means and variances (n, K, p), weights that covariances follow from, and probabilities (n, K)."""
        means, variances, weights = (as_double(each) for each in (mean, variance, weight))
        prior = self.prior
        parts = [
            GeneSpacePosterior(
                means[:, k],
                variances[:, k],
                weights[:, k],
                prior.scale[k],
                diagonal=self.diagonal,
                center=prior.loc[k],
            )
            for k in range(self.n_components)
        ]
        return MixturePosterior(responsibilities, parts)

    def has_exact_bound(self, posterior: Posterior) -> bool:
        """It is in closed form."""
        return True

    def expected_rates(
        self, design: ArrayLike, posterior: Posterior, genes: ArrayLike | None = None, offsets: ArrayLike = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Means of the rates under posteriors (n, genes), and whether each is beyond the bound of log-rates where it counts."""
        assert isinstance(posterior, MixturePosterior)
        select = slice(None) if genes is None else np.asarray(genes)
        known = (as_double(design) @ as_double(self.coefficients).T)[:, select] + as_double(offsets)
        upper = self.generative.likelihood.largest_log_rate
        total, beyond = torch.zeros_like(known), torch.zeros_like(known, dtype=torch.bool)
        for share, part in zip(posterior.weights.T, posterior.components, strict=True):
            eta, variance = known + as_double(part.mean)[:, select], as_double(part.variance)[:, select]
            total += share[:, None] * expected_rate(eta, variance, upper)
            beyond |= reaches_bound(eta, variance, upper) & (share[:, None] > 0)
        return total.numpy(), beyond.numpy()
