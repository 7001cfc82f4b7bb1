"""Parameters of PLN-PCA and posteriors of its training cells, and what follows from them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import torch

from scpln.module._generative import Generative
from scpln.module._latent_module import LatentModule
from scpln.module.decoders import LinearDecoder
from scpln.module.likelihoods import expected_rate, make_likelihood, reaches_bound
from scpln.module.posteriors import (
    SLOTS,
    FlowPosterior,
    GaussianPosterior,
    MixturePosterior,
    as_double,
    mixture_posterior,
)
from scpln.module.priors import StandardNormal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scpln.module._approximation import Approximation
    from scpln.module._batch import Batch
    from scpln.module.likelihoods import Likelihood
    from scpln.module.posteriors import Posterior
    from scpln.module.priors import Prior


class PLNPCAModule(LatentModule):
    r"""PLN-PCA, with the posteriors of its training cells.

    .. math::
        z_i \sim N(0, I_q), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j, \quad
        y_{ij} \sim p(y \mid \eta_{ij}),

    or with z from a mixture of Gaussians.

    Parameters
    ----------
    generative
        Decoder with B (p, d) and C (p, q), likelihood, and prior.
    approximation
        Flow or encoder of the posteriors; None if each cell has a Gaussian of its own.

    Attributes
    ----------
    mean, covariance
        Means (n, q) and packed covariances (n, q(q+1)/2) of the training cells' Gaussians: their posteriors, or, in the
        coordinates of the reference, what a flow starts from.
    context
        What a flow knows of them, (n, c). Under a mixture, the probabilities of its components, (n, K); `mean` (n, M, q) and
        `covariance` (n, M, q(q+1)/2) are then of the M most probable.
    elbo
        Each training cell's contribution to the bound, in nats, (n,).
    spread
        Covariances of the loadings' posteriors, packed lower triangles (p, q(q+1)/2); (0, q(q+1)/2) where they are known.
    expression_base, expression_center, expression_axes
        What expression is seen from (`scpln.model.PLNPCA.get_latent_representation`): axes are 0 until they are needed.
    rotation
        Axes R (q, q) in which a mean-field posterior is diagonal: z there is z Rᵀ.
    reference
        Model whose Gaussians a flow without an encoder starts from.

    Examples
    --------
    >>> import numpy as np
    >>> module = PLNPCAModule.empty(n_genes=4, n_covariates=1, n_latent=2)
    >>> module.rates(np.ones((3, 1)), np.zeros((3, 2)), np.zeros((3, 3)))
    array([[1., 1., 1., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.]])
    """

    by_cell = ("mean", "covariance", "context", "elbo")

    mean: torch.Tensor
    covariance: torch.Tensor
    context: torch.Tensor
    elbo: torch.Tensor
    rotation: torch.Tensor
    spread: torch.Tensor
    expression_base: torch.Tensor
    expression_center: torch.Tensor
    expression_axes: torch.Tensor

    def __init__(self, generative: Generative, approximation: Approximation | None = None) -> None:
        super().__init__(generative)
        self.approximation = approximation
        starts_elsewhere = approximation is not None and not approximation.encodes
        self.reference = copy.deepcopy(generative) if starts_elsewhere else None
        q = generative.decoder.n_latent
        self.register_buffer("rotation", torch.eye(q, dtype=torch.float64))
        self.set_spread(np.zeros((0, q * (q + 1) // 2)))
        p = len(cast("torch.Tensor", generative.decoder.loadings))
        self.set_expression(np.zeros(p), np.zeros(p), np.zeros((p, q)))
        slots = () if isinstance(generative.prior, StandardNormal) else (min(SLOTS, generative.prior.n_components),)
        mean, covariance = (np.zeros((0, *slots, width), np.float32) for width in (q, q * (q + 1) // 2))
        self.set_cells(mean, covariance, np.zeros(0))
        self.requires_grad_(False)

    @classmethod
    def empty(
        cls,
        n_genes: int,
        n_covariates: int,
        n_latent: int,
        *,
        likelihood: str | Likelihood = "poisson",
        approximation: Approximation | None = None,
        prior: Prior | None = None,
    ) -> Self:
        """Module of a model that is not trained: zeros, and no cells. The likelihood goes by name, or is taken as it is."""
        decoder = LinearDecoder(np.zeros((n_genes, n_covariates)), np.zeros((n_genes, n_latent)))
        if isinstance(likelihood, str):
            likelihood = make_likelihood(likelihood, n_genes)
        return cls(Generative(decoder, likelihood, prior).double(), approximation)

    @property
    def encodes(self) -> bool:
        """Whether an encoder gives the Gaussians."""
        return self.approximation is not None and self.approximation.encodes

    @property
    def coefficients(self) -> torch.Tensor:
        """B, (p, d)."""
        return cast("torch.Tensor", self.generative.decoder.coefficients)

    @property
    def loadings(self) -> torch.Tensor:
        """C, (p, q)."""
        return cast("torch.Tensor", self.generative.decoder.loadings)

    def has_exact_bound(self, posterior: Posterior) -> bool:
        """Under Gaussians, and mixtures of them, it is in closed form, or by quadrature."""
        return posterior.is_gaussian or (isinstance(posterior, MixturePosterior) and posterior.is_of_gaussians)

    def expected_rates(
        self, design: ArrayLike, posterior: Posterior, genes: ArrayLike | None = None, offsets: ArrayLike = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """Means of the rates under Gaussian posteriors (n, genes), as `rates`, and whether each is beyond the bound."""
        if isinstance(posterior, MixturePosterior):
            return self._expected_of_mixture(design, posterior, genes, offsets)
        if not posterior.is_gaussian:
            return None
        eta, variance = self._log_rates(design, posterior.mean, posterior.packed_covariance, genes)
        eta = eta + as_double(offsets)
        beyond = reaches_bound(eta, variance, self.generative.likelihood.largest_log_rate)
        return self._to_rates(eta, variance).numpy(), beyond.numpy()

    def _expected_of_mixture(
        self, design: ArrayLike, posterior: MixturePosterior, genes: ArrayLike | None, offsets: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        total, beyond = 0.0, False
        for weights, part in zip(posterior.weights.numpy().T, posterior.components, strict=True):
            found = self.expected_rates(design, part, genes, offsets)
            if found is None:
                return None
            total, beyond = total + weights[:, None] * found[0], beyond | (found[1] & (weights[:, None] > 0))
        return np.asarray(total), np.asarray(beyond)

    def set_cells(
        self,
        mean: ArrayLike | torch.Tensor,
        covariance: ArrayLike | torch.Tensor,
        elbo: ArrayLike | torch.Tensor,
        context: ArrayLike | torch.Tensor | None = None,
    ) -> None:
        """Store the posteriors of the training cells."""
        if context is None:
            context = np.zeros((len(torch.as_tensor(elbo)), 0), np.float32)
        values = {"mean": mean, "covariance": covariance, "context": context, "elbo": elbo}
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value))

    def set_spread(self, spread: ArrayLike) -> None:
        """Store the covariances of the loadings' posteriors, packed (p, q(q+1)/2)."""
        self.register_buffer("spread", torch.as_tensor(np.asarray(spread, np.float32)))

    def set_expression(self, base: ArrayLike, center: ArrayLike, axes: ArrayLike) -> None:
        """Store what expression is seen from: log-rates (p,) at average covariates, and a mean (p,) and axes (p, q)."""
        for name, value in (("base", base), ("center", center), ("axes", axes)):
            self.register_buffer(f"expression_{name}", torch.as_tensor(np.asarray(value, np.float64)))

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over a state, which may have any number of cells; models of earlier versions know loadings exactly."""
        added = ("spread", "expression_base", "expression_center", "expression_axes")
        if not any(name in tensors for name in added):
            tensors = {**tensors, **{name: getattr(self, name) for name in added}}
        if missing := [name for name in added if name not in tensors]:
            msg = f"there is no {missing[0]!r}."
            raise ValueError(msg)
        spread = tensors["spread"]
        if spread.shape[1:] != self.spread.shape[1:] or len(spread) not in (0, len(self.loadings)):
            msg = f"'spread' of the loadings has shape {tuple(spread.shape)}, which this model has not."
            raise ValueError(msg)
        self.register_buffer("spread", torch.empty_like(spread))
        for name in self.by_cell:
            own, given = getattr(self, name), tensors[name]
            if (
                given.ndim != own.ndim
                or len(given) != len(tensors["elbo"])
                or (name != "context" and given.shape[1:] != own.shape[1:])
            ):
                msg = f"{name!r} of the cells has shape {tuple(given.shape)}, which this model has not."
                raise ValueError(msg)
        self.set_cells(**{name: torch.empty_like(tensors[name]) for name in self.by_cell})
        self.load_state_dict(tensors)

    def posterior(self, cells: ArrayLike | None = None) -> Posterior:
        """Posteriors of the training cells, or of those at the given positions."""
        select = slice(None) if cells is None else np.asarray(cells)
        if self.mean.ndim > 2:
            return mixture_posterior(self.context[select], self.mean[select], self.covariance[select])
        return self.compose(GaussianPosterior(self.mean[select], self.covariance[select]), self.context[select])

    def compose(self, gaussian: GaussianPosterior, context: torch.Tensor) -> Posterior:
        """Posteriors from the Gaussians of cells and what the flow, if there is one, knows of them."""
        if self.approximation is None or self.approximation.flow is None:
            return gaussian
        flow = copy.deepcopy(self.approximation.flow).cpu().double()
        return FlowPosterior(gaussian, flow, context, self.approximation.frame)

    @torch.no_grad()
    def encode(self, batch: Batch, gaussian: GaussianPosterior | None = None) -> tuple[GaussianPosterior, torch.Tensor]:
        """Gaussians of a batch of cells (float32) and the context of the flow.

        An encoder gives its own in place of the given ones. Without a flow, they are in the coordinates of the loadings.
        """
        assert self.approximation is not None
        given = None
        if not self.approximation.encodes:
            assert gaussian is not None
            given = torch.from_numpy(gaussian.mean).float(), gaussian.scale.float()
        conditional = self.approximation(batch, given)
        context = torch.zeros((len(batch), 0)) if conditional.context is None else conditional.context
        if gaussian is not None and given is not None:
            return gaussian, context
        rows, columns = torch.tril_indices(*self.rotation.shape)
        covariance = (conditional.scale.double() @ conditional.scale.double().mT)[:, rows, columns]
        encoded = GaussianPosterior(conditional.loc, covariance)
        return encoded if conditional.flow is not None else encoded.rotate(self.approximation.frame), context

    def rates(
        self, design: ArrayLike, mean: ArrayLike, covariance: ArrayLike | None = None, genes: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        r"""Rates without size factors, (n, p) or (n, genes).

        With a covariance, their mean under a Gaussian posterior,
        :math:`E[e^{x_i \cdot B_j + z_i \cdot C_j}] = e^{x_i \cdot B_j + m_i \cdot C_j + \frac12 C_j^T V_i C_j}`;
        without, the rate at z = `mean`, which may have samples as leading dimensions (..., n, q). Log-rates are bounded, as
        the likelihood bounds them (`expected_rate`). Of real-valued data, :math:`x_i \cdot B_j + z_i \cdot C_j` itself.
        """
        eta, variance = self._log_rates(design, mean, covariance, genes)
        return self._to_rates(eta, variance).numpy()

    def rates_at(self, base: ArrayLike, mean: ArrayLike, covariance: ArrayLike | None = None) -> NDArray[np.float64]:
        """Rates as `rates`, with log-rates `base` (p,) in place of what a design adds."""
        nothing = np.zeros((1, self.coefficients.shape[1]))
        eta, variance = self._log_rates(nothing, mean, covariance, None)
        return self._to_rates(eta + as_double(base), variance).numpy()

    def _log_rates(
        self, design: ArrayLike, mean: ArrayLike, covariance: ArrayLike | None, genes: ArrayLike | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and variances of the log-rates."""
        select = slice(None) if genes is None else np.asarray(genes)
        b, c = as_double(self.coefficients)[select], as_double(self.loadings)[select]
        eta = as_double(design) @ b.T + as_double(mean) @ c.T
        if covariance is None:
            return eta, torch.zeros_like(eta)
        rows, columns = torch.tril_indices(c.shape[1], c.shape[1])
        squares = c[:, rows] * c[:, columns] * torch.where(rows == columns, 1.0, 2.0)
        return eta, (as_double(covariance) @ squares.T).clamp_(min=0)

    def _to_rates(self, eta: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """Mean rates at log-rates with these moments; of real-valued data, the mean itself."""
        likelihood = self.generative.likelihood
        return expected_rate(eta, variance, likelihood.largest_log_rate) if likelihood.is_count else eta
