"""Errors of the parameters of the Poisson log-normal model in gene space."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import scvi
from scipy.linalg import cho_solve

from scpln.core import threads
from scpln.inference.genespace import PLNResult
from scpln.inference.uncertainty import covariance_directions, gene_space_sandwich
from scpln.model.abilities import ResampledParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scpln.core import Array, CountData
    from scpln.inference.genespace import PosteriorName
    from scpln.inference.genespace.network import Rule
    from scpln.inference.uncertainty import Refit, Sandwich
    from scpln.module import Likelihood, PLNModule
    from scpln.module.covariances import Covariance

    from ._inference import InferenceName

#: Iterations of a fit to a sample, and the gain that ends it, nats per cell: what one cell changes is far less than what all do.
MAX_ITER, TOLERANCE = 1000, 1e-7
#: Share of its variances that is added to a Σ that is started from: from a singular one, as estimates of few cells are, no step leads away.
INTERIOR = 1e-2


class PLNErrors(ResampledParameters):
    """The sandwich over coefficients and covariance together, and fits to samples of the cells."""

    module: PLNModule
    covariance: str
    posterior: PosteriorName
    prior_precision: float
    inference: InferenceName
    penalty: float | list[float] | Rule | None

    @abstractmethod
    def _new_covariance(self) -> Covariance:
        """Σ, as it starts."""

    @abstractmethod
    def _fit(self, data: CountData, settings: dict[str, Any]) -> PLNResult:
        """From scratch, or a start."""

    def _root(self) -> NDArray[np.float64]:
        return self.module.scale.cpu().numpy()

    @property
    def _is_plain(self) -> bool:
        """Whether estimates maximise the bound, and nothing else."""
        return self.inference == "variational" and self.penalty is None

    def _new_sandwich(self, data: CountData) -> Sandwich:
        if not self._is_plain:
            other = f"inference={self.inference!r}" if self.penalty is None else f"penalty={self.penalty!r}"
            msg = f"The sandwich is of estimates that maximise the bound, and this has {other}. Take model.bootstrap() or model.jackknife()."
            raise ValueError(msg)
        scale, known = self._root(), self.module.known.cpu().numpy()
        sigma = scale @ scale.T
        with threads(scvi.settings.num_threads) as pool:
            return gene_space_sandwich(
                data.design,
                self._slope(data),
                self.module.weight.cpu().numpy(),
                sigma,
                covariance_directions(sigma, known, self.covariance),
                self.prior_precision,
                pool,
                mean_field=self.posterior == "meanfield",
                poisson=self.module.generative.likelihood.is_poisson,
            )

    def _slope(self, data: CountData) -> NDArray[np.float64]:
        """α = Ω (m − Bx) at the optimum, which is y − A of Poisson counts, whatever Σ is."""
        if not self.module.generative.likelihood.is_poisson:
            return np.asarray(cho_solve((self._root(), True), self.module.mean.cpu().numpy().T).T)
        rows, weight = data.rows(0, data.n_cells), self.module.weight.cpu().numpy()
        counts = np.asarray(rows if isinstance(rows, np.ndarray) else rows.toarray(), np.float64)
        return np.where(weight > 0, counts - weight, 0.0)

    def _refit(self, data: CountData) -> Refit:
        scale = self._root()
        coefficients, likelihood = self.module.coefficients.cpu().numpy(), self.module.generative.likelihood
        start = _start(coefficients, self._new_covariance(), scale @ scale.T, likelihood)
        settings: dict[str, Any] = {
            "max_iter": MAX_ITER,
            "tol": TOLERANCE,
            "n_threads": 1,
            "n_samples": None,
            "seed": 0,
        }
        from_start = {"start": start} if self._is_plain else {}

        def refit(cells: NDArray[np.intp]) -> tuple[Array, Array] | None:
            sample = data.subset(cells)
            found = self._fit(sample, {**settings, **copy.deepcopy(from_start)})
            if not found.converged and from_start:
                found = self._fit(sample, dict(settings))
            if not np.isfinite(found.elbo).all():
                return None
            return found.coefficients, np.linalg.cholesky(found.covariance.dense)

        return refit


def _start(coefficients: Array, family: Covariance, sigma: Array, likelihood: Likelihood) -> PLNResult:
    """Parameters that a fit starts from, away from where Σ is singular; of this the family takes what it has."""
    family = copy.deepcopy(family)
    family.update(sigma + INTERIOR * np.diag(np.diagonal(sigma)))
    nothing, none = np.empty((0, len(sigma))), np.empty(0)
    cells = nothing, nothing, nothing, none, none, none.astype(int)
    return PLNResult(*cells, coefficients, family, likelihood, history={}, converged=False, reason="a start")
