"""Errors of the parameters of PLN-PCA."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import scvi

from scpln.core import threads
from scpln.inference import fit_gaussians, make_cell_problem
from scpln.inference.newton import CellStates, FitResult
from scpln.inference.uncertainty import factor_sandwich

from ._parameters import parameters_of
from ._resampling import ResampledParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.inference import GenePriorName
    from scpln.inference.uncertainty import FactorSandwich, Refit, Sandwich
    from scpln.module import Likelihood, PLNPCAModule

#: Iterations of a fit to a sample, and the gain that ends it, nats per cell.
MAX_ITER, TOLERANCE = 500, 1e-5


class FactorErrors(ResampledParameters):
    """PLN-PCA with a Gaussian posterior of full rank for each cell."""

    module: PLNPCAModule
    posterior: Any
    prior: GenePriorName
    n_latent: int
    inference: str

    @abstractmethod
    def _new_likelihood(self) -> Likelihood:
        """The likelihood of the model's genes, as it starts."""

    def _new_sandwich(self, data: CountData) -> Sandwich | FactorSandwich:
        self._check_gaussian()
        genes, family, likelihood = parameters_of(self.module)
        posterior = self.module.posterior()
        codes = np.zeros(data.n_genes, np.intp) if data.groups is None else data.groups
        with threads(scvi.settings.num_threads) as pool:
            problem = make_cell_problem(data, family, likelihood, pool)
            states = CellStates.known(posterior.mean, posterior.packed_covariance)
            return factor_sandwich(problem, genes, states, codes, pool)

    def _check_gaussian(self) -> None:
        """Raise an error unless estimates maximise the bound of Gaussians of full rank at their optimum, under one of the states' priors."""
        if self.inference != "variational":
            msg = f"Errors are of estimates that maximise the bound, and this has inference={self.inference!r}. Take them from a model without."
            raise ValueError(msg)
        posterior = self.module.posterior()
        if (
            self.posterior == "fullrank"
            and self.module.approximation is None
            and posterior.is_gaussian
            and posterior.gaussian is not None
        ):
            return
        msg = (
            "Errors of coefficients follow from Gaussian posteriors of full rank, one for each cell, and this model has others. Take them from "
            "a model with posterior='fullrank', n_components=1 and amortized=False."
        )
        raise ValueError(msg)

    def _root(self) -> NDArray[np.float64]:
        return parameters_of(self.module)[0].loadings

    def _refit(self, data: CountData) -> Refit:
        self._check_gaussian()
        genes = parameters_of(self.module)[0]
        posterior, q = self.module.posterior(), genes.loadings.shape[1]
        mean, covariance, elbo = posterior.mean, posterior.packed_covariance, self.module.elbo.cpu().numpy()
        fitted = genes.coefficients, genes.loadings

        def refit(cells: NDArray[np.intp]) -> tuple[Array, Array] | None:
            found = fit_gaussians(
                data.subset(cells),
                self.n_latent,
                self._new_likelihood(),
                start=FitResult(
                    *fitted,
                    mean=mean[cells],
                    covariance=covariance[cells],
                    elbo=elbo[cells],
                    rotation=np.eye(q),
                    history={},
                    converged=True,
                    reason="a start",
                ),
                prior=self.prior,
                max_iter=MAX_ITER,
                tol=TOLERANCE,
                n_threads=1,
            )
            usable = np.isfinite(found.elbo).all() and "diverged" not in found.reason
            return (found.coefficients, found.loadings) if usable else None

        return refit
