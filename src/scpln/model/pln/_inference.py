"""The choice of an estimator in gene space, which all are called, and answer, in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from scpln.core import threads
from scpln.inference import estimators
from scpln.inference.estimators._proposals import importance_bounds, independent_seed
from scpln.inference.estimators._quadrature import exact_log_likelihood
from scpln.inference.genespace import GenePosteriors, fit_pln, infer_pln
from scpln.inference.genespace._observations import Observations
from scpln.inference.genespace.network import fit_network
from scpln.utils import warn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.inference.genespace import PLNResult, PosteriorName, ZeroInflation
    from scpln.inference.genespace.network import Rule
    from scpln.module import Likelihood
    from scpln.module.covariances import Covariance

    #: From log-rates and counts to log-probabilities.
    LogDensity: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

InferenceName = Literal["variational", "importance", "quadrature", "nuts", "score_function"]
#: Estimators that draw, and those whose bound is importance-weighted.
OF_DRAWS = ("importance", "nuts", "score_function")
WEIGHTED = ("importance", "nuts")
#: Those that take diagonal posteriors.
WITH_MEANFIELD = ("variational", "quadrature", "score_function")
#: Share of cells with few effective draws that is warned of.
MOST_LOW = 0.01


def check_inference(
    inference: InferenceName, posterior: PosteriorName, covariance: str, n_genes: int, likelihood: object
) -> None:
    """Raise an error for choices that do not go together."""
    _check_function(inference, likelihood)
    if inference not in ("variational", "score_function") and likelihood != "poisson":
        msg = f"inference={inference!r} is for likelihood='poisson', and this is {likelihood!r}. Leave one of both out."
        raise ValueError(msg)
    if posterior == "meanfield" and inference not in WITH_MEANFIELD:
        msg = f"inference={inference!r} draws around posteriors of full rank. Leave posterior='meanfield' out."
        raise ValueError(msg)
    if inference == "quadrature" and covariance not in ("diagonal", "spherical") and n_genes > 2:
        msg = (
            f"inference='quadrature' is for covariance='diagonal' or 'spherical', or for up to 2 genes, and these are {n_genes} with "
            f"{covariance!r}. Take inference='importance'."
        )
        raise ValueError(msg)


def _check_function(inference: InferenceName, likelihood: object) -> None:
    """The score function is for likelihoods that are functions, and these for it."""
    if callable(likelihood) != (inference == "score_function"):
        msg = (
            "inference='score_function' is for a likelihood that is a function of log-rates and counts, and the others for one that is named. "
            "Pass both, likelihood=function and inference='score_function', or neither."
        )
        raise ValueError(msg)


@dataclass(frozen=True)
class Inference:
    """An estimator, with what it needs beside the data.

    Attributes
    ----------
    name
        Which.
    posterior
        Variational family of the Gaussian posteriors that cells have under any estimator.
    likelihood
        Name of the distribution of the counts, or a log-density.
    zero_inflation
        What its zero inflation depends on, if it has some.
    penalty
        Of the precision's entries, one, several, or the rule that chooses; None for none.
    """

    name: InferenceName
    posterior: PosteriorName
    likelihood: str | LogDensity
    zero_inflation: ZeroInflation | None = None
    penalty: float | list[float] | Rule | None = None

    @property
    def has_own_bound(self) -> bool:
        """Whether what it says of cells is not the bound of their Gaussian posteriors."""
        return self.name in (*WEIGHTED, "quadrature")

    def fit(
        self,
        data: CountData,
        covariance: Covariance,
        *,
        n_samples: int | None,
        seed: int,
        n_threads: int | None,
        likelihood: Likelihood,
        **common: Any,
    ) -> PLNResult:
        """B, Σ, the likelihood's parameters, and what is known of each cell."""
        options: dict[str, Any] = {} if n_samples is None else {"n_samples": n_samples}
        if self.name == "variational":
            options = {"likelihood": likelihood, "posterior": self.posterior, "n_threads": n_threads}
            if self.penalty is not None:
                return fit_network(data, self.penalty, seed=seed, **options, **common)
            return fit_pln(data, covariance, zero_inflation=self.zero_inflation or "gene", **options, **common)
        if self.name == "quadrature":
            return estimators.fit_quadrature(data, covariance, posterior=self.posterior, n_threads=n_threads, **common)
        if callable(self.likelihood):
            common |= {"posterior": self.posterior, "seed": seed}
            return estimators.fit_score_function(data, covariance, self.likelihood, **options, **common)
        fit = estimators.fit_importance if self.name == "importance" else estimators.fit_nuts
        return fit(data, covariance, seed=seed, n_threads=n_threads, **options, **common)

    def infer(
        self,
        data: CountData,
        coefficients: NDArray[np.float64],
        covariance: Covariance,
        likelihood: Likelihood,
        inflation: NDArray[np.float64] | None,
        *,
        n_threads: int | None,
    ) -> GenePosteriors:
        """Gaussian posteriors of cells at given parameters."""
        options: dict[str, Any] = {"posterior": self.posterior}
        if callable(self.likelihood):
            return estimators.infer_score_function(data, coefficients, covariance, self.likelihood, **options)
        options |= {"likelihood": likelihood, "inflation": inflation, "n_threads": n_threads}
        return infer_pln(data, coefficients, covariance, **options)

    def bounds(
        self,
        data: CountData,
        coefficients: NDArray[np.float64],
        covariance: Covariance,
        cells: GenePosteriors,
        *,
        n_samples: int,
        seed: int,
        positions: NDArray[np.intp] | None,
        n_threads: int | None,
    ) -> dict[str, NDArray[np.float64]]:
        """What is known of the log-likelihood of cells at given parameters, ``elbo`` (n,), and with draws also ``ess``."""
        if not self.has_own_bound or not data.n_cells:
            return {"elbo": cells.elbo}
        with threads(n_threads) as pool:
            if self.name == "quadrature":
                return {"elbo": exact_log_likelihood(data, coefficients, covariance, cells, pool)}
            bounds, ess = importance_bounds(
                Observations.of(data),
                coefficients,
                covariance,
                cells,
                pool,
                n_samples=n_samples,
                seed=independent_seed(seed),
                positions=positions,
            )
        return {"elbo": bounds, "ess": ess}


def warn_of_weights(summary: dict[str, float]) -> None:
    """Say which share of cells has weights that say little, and whether chains have not converged."""
    low, r_hat = summary.get("low_ess", 0.0), summary.get("r_hat", 1.0)
    if low > MOST_LOW:
        warn(
            f"{low:.0%} of the cells have fewer than {estimators.LEAST_EFFECTIVE:.0f} effective draws, so that estimates may be far from the maximum "
            "of the likelihood, and their bounds low. Take more draws with n_samples, fewer genes, or inference='variational'."
        )
    if r_hat > estimators.LARGEST_R_HAT:
        warn(
            f"The chain has not converged: its largest R̂ is {r_hat:.3f}, above {estimators.LARGEST_R_HAT}. Take more draws with n_samples."
        )
