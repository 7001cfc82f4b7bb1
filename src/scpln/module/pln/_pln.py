"""Parameters of the Poisson log-normal model in gene space and posteriors of its training cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch

from scpln.module._generative import Generative
from scpln.module._latent_module import LatentModule
from scpln.module.decoders import IdentityDecoder
from scpln.module.likelihoods import expected_rate, make_likelihood, reaches_bound
from scpln.module.posteriors import GeneSpacePosterior, as_double
from scpln.module.priors import Normal

from ._log_density import LogDensityLikelihood

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.module.likelihoods import Likelihood
    from scpln.module.posteriors import Posterior

#: Nodes for the mean of counts under a posterior.
MEAN_NODES = 32
#: The likelihood's parameter that is the logit of zero inflation.
GATE = "gate_logits"


class PLNModule(LatentModule):
    r"""The Poisson log-normal model in gene space, with the posteriors of its training cells.

    .. math::
        z_i \sim N(0, \Sigma), \quad \eta_{ij} = o_{ij} + x_i \cdot B_j + z_{ij}, \quad y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    or another likelihood with log-rate η.

    Parameters
    ----------
    n_genes, n_covariates
        Genes p and columns d of the design.
    known
        What Σ is made of that is not estimated, such as Σ itself or its eigenvectors, (p, k); nothing if None.
    diagonal
        Whether posteriors have diagonal covariances.
    likelihood
        Distribution of the counts, or its name, one of `scpln.module.LIKELIHOODS`.
    inflation_by_design
        Whether its zero inflation depends on the design.

    Attributes
    ----------
    known
        The same, (p, 0) for nothing.
    parts
        What Σ is made of that is estimated and is a result itself, such as a sparse precision or loadings, (p, k); (p, 0) for nothing.
    mean, variance, weight
        Means and variances of the training cells' posteriors of z, and the weights that their covariances follow from, (n, p) each.
    elbo
        Each training cell's contribution to the bound, in nats, (n,).
    """

    by_cell: ClassVar[tuple[str, ...]] = ("mean", "variance", "weight", "elbo")

    known: torch.Tensor
    parts: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    weight: torch.Tensor
    elbo: torch.Tensor

    def __init__(
        self,
        n_genes: int,
        n_covariates: int,
        known: ArrayLike | torch.Tensor | None = None,
        *,
        diagonal: bool = False,
        likelihood: str | Likelihood = "poisson",
        inflation_by_design: bool = False,
    ) -> None:
        nothing = np.zeros((n_genes, n_covariates))
        decoder = IdentityDecoder(nothing, nothing if inflation_by_design else None)
        of_counts = make_likelihood(likelihood, n_genes) if isinstance(likelihood, str) else likelihood
        super().__init__(Generative(decoder, of_counts, Normal(n_genes)).double())
        self.diagonal = diagonal
        self.register_buffer("known", as_double(np.zeros((n_genes, 0)) if known is None else known))
        self.register_buffer("parts", as_double(np.zeros((n_genes, 0))))
        nothing = np.zeros((0, n_genes))
        self.set_cells(nothing, nothing, nothing, np.zeros(0))
        self.requires_grad_(False)

    @property
    def coefficients(self) -> torch.Tensor:
        """B, (p, d)."""
        return cast("torch.Tensor", self.generative.decoder.coefficients)

    @property
    def scale(self) -> torch.Tensor:
        """Cholesky factor of Σ, (p, p)."""
        return cast("torch.Tensor", self.generative.prior.scale)

    @property
    def inflation(self) -> NDArray[np.float64] | None:
        """Coefficients of the logit of zero inflation with intercepts, (p, d), where it depends on the design; otherwise None."""
        effects = cast("torch.Tensor | None", self.generative.decoder.inflation)
        if effects is None:
            return None
        values: NDArray[np.float64] = effects.detach().cpu().numpy().copy()
        values[:, 0] = cast("torch.Tensor", self.generative.likelihood.gate_logits).detach().cpu().numpy()
        return values

    def set_parameters(
        self,
        coefficients: ArrayLike,
        scale: ArrayLike,
        likelihood: Likelihood,
        *,
        inflation: ArrayLike | None = None,
        parts: ArrayLike | torch.Tensor | None = None,
    ) -> None:
        """Take over B, the Cholesky factor of Σ, the likelihood's parameters, coefficients of its zero inflation, and what Σ is made of."""
        if inflation is not None:
            effects = cast("torch.Tensor", self.generative.decoder.inflation)
            effects.copy_(torch.as_tensor(inflation))
            effects[:, 0] = 0  # intercepts are the likelihood's
        self.generative.likelihood.load_state_dict(likelihood.state_dict())
        self.coefficients.copy_(torch.as_tensor(coefficients))
        self.scale.copy_(torch.as_tensor(scale))
        if parts is not None:
            self.register_buffer("parts", as_double(parts))

    def set_cells(self, mean: ArrayLike, variance: ArrayLike, weight: ArrayLike, elbo: ArrayLike) -> None:
        """Store the posteriors of the training cells."""
        for name, value in zip(self.by_cell, (mean, variance, weight, elbo), strict=True):
            self.register_buffer(name, torch.as_tensor(value))

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over a state, which may have any number of cells."""
        for name in self.by_cell:
            own, given = getattr(self, name), tensors[name]
            if given.shape[1:] != own.shape[1:] or len(given) != len(tensors["elbo"]):
                msg = f"{name!r} of the cells has shape {tuple(given.shape)}, which this model has not."
                raise ValueError(msg)
        self.set_cells(*(torch.empty_like(tensors[name]) for name in self.by_cell))
        for name in ("known", "parts"):
            given = tensors[name]
            if given.shape[:1] != self.known.shape[:1] or given.ndim != 2:
                msg = f"{name!r} of Σ has shape {tuple(given.shape)}, which this model has not."
                raise ValueError(msg)
            self.register_buffer(name, torch.empty_like(given))
        self.load_state_dict(tensors)

    def posterior(self, cells: ArrayLike | None = None) -> GeneSpacePosterior:
        """Posteriors of the training cells, or of those at the given positions."""
        select = slice(None) if cells is None else np.asarray(cells)
        return self.compose(self.mean[select], self.variance[select], self.weight[select])

    def compose(
        self, mean: ArrayLike | torch.Tensor, variance: ArrayLike | torch.Tensor, weight: ArrayLike | torch.Tensor
    ) -> GeneSpacePosterior:
        """Posteriors with given means and variances (n, p), and the weights that covariances follow from."""
        return GeneSpacePosterior(mean, variance, weight, self.scale, diagonal=self.diagonal)

    def expected_counts(
        self, design: ArrayLike, posterior: Posterior, offsets: ArrayLike, gate_logits: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Means of the counts under posteriors, (n, p): of the likelihood's mean, by quadrature over each log-rate; with logits of inflation by cell (n,)."""
        eta, deviations = self.decode(posterior.mean, design)
        if gate_logits is not None:
            deviations[GATE] = as_double(gate_logits)[:, None]
        eta, spread = eta + as_double(offsets), as_double(posterior.variance).sqrt()
        nodes, weights = np.polynomial.hermite_e.hermegauss(MEAN_NODES)
        mean, total = self.generative.likelihood.mean, torch.zeros_like(eta)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            total += weight * mean(eta + node * spread, deviations)
        return total.numpy()

    def has_exact_bound(self, posterior: Posterior) -> bool:
        """It is in closed form, or by quadrature, but of a likelihood that is a log-density."""
        return not isinstance(self.generative.likelihood, LogDensityLikelihood)

    def expected_rates(
        self, design: ArrayLike, posterior: Posterior, genes: ArrayLike | None = None, offsets: ArrayLike = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Means of the rates under posteriors (n, genes), and whether each is beyond the bound of log-rates."""
        select = slice(None) if genes is None else np.asarray(genes)
        eta = as_double(design) @ as_double(self.coefficients).T + as_double(posterior.mean)
        eta, variance = eta[:, select] + as_double(offsets), as_double(posterior.variance)[:, select]
        upper = self.generative.likelihood.largest_log_rate
        return expected_rate(eta, variance, upper).numpy(), reaches_bound(eta, variance, upper).numpy()
