"""The training of the Poisson log-normal model in gene space, as a user calls it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.core import after_training
from scpln.inference import fit_pln_columns
from scpln.inference.genespace import PLNResult, PosteriorName, ZeroInflation, infer_pln
from scpln.inference.genespace.network import NetworkResult
from scpln.model.abilities import NOTHING_NEW, Bounds, QueryMapping
from scpln.model.base import warn_stuck
from scpln.utils import (
    MOST_DRAWS,
    as_bool,
    positive_integer_or_none,
    progress_bar,
)

from ._inference import OF_DRAWS, warn_of_weights
from ._network import n_penalties, warn_of_end
from ._options import training_options
from ._states import known_covariance

if TYPE_CHECKING:
    import torch

    from scpln.core import CountData
    from scpln.data import Cells
    from scpln.inference.genespace.network import Rule
    from scpln.module import PLNModule
    from scpln.module.covariances import Covariance

    from ._inference import Inference, InferenceName


class PLNTraining(QueryMapping, Bounds):
    """All posteriors by Newton's method, and coefficients and covariance by quasi-Newton steps around it."""

    module: PLNModule
    posterior: PosteriorName
    prior_precision: float
    penalty: float | list[float] | Rule | None
    zero_inflation: ZeroInflation | None
    inference: InferenceName

    @property
    @abstractmethod
    def _estimator(self) -> Inference:
        """How B and Σ are estimated."""

    @abstractmethod
    def _new_covariance(self) -> Covariance:
        """Σ, as it starts."""

    @abstractmethod
    def _new_module(self, known: torch.Tensor | None = None) -> PLNModule:
        """Module that is not trained, with what is known of Σ."""

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-5,
        n_samples: int | None = None,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over coefficients, covariance and posteriors; or the log-likelihood, as `inference` says.

        Ctrl-C stops early and keeps the best parameters so far. Training again starts anew. Of samples that were mapped onto a
        reference (`load_query_data`), the coefficients of new categories alone are estimated, under a normal prior around the average of the
        known ones, whose shift and spread are learned from all genes.

        Parameters
        ----------
        max_epochs
            At most so many iterations, in each of which all posteriors are brought to their optimum; by default 1,000. Of a network, for
            each penalty.
        tol
            Converged when an iteration gains less than this, nats per cell, averaged over ten.
        n_samples
            Draws of each cell, for an `inference` that draws. By default 200,000 of all cells together, but 100 to 5,000 of each, for
            ``"importance"``; 400 for ``"nuts"``; 16 in each iteration for ``"score_function"``.
        seed
            Of the draws that the summary of the posteriors is made from, of those that estimates are made from, where there are some, and of the
            subsamples of ``penalty="stars"``. By default ``scvi.settings.seed``, or 0.
        n_threads
            Threads; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLN(adata)
        >>> model.train(progress=False)
        >>> model.converged
        True
        """
        progress, options = as_bool("progress", progress), training_options(max_epochs, tol, seed, n_threads)
        n_samples = positive_integer_or_none("n_samples", n_samples, most=MOST_DRAWS)
        if n_samples is not None and self.inference not in OF_DRAWS:
            msg = f"n_samples= is for an inference of draws ({', '.join(OF_DRAWS)}), and this is {self.inference!r}. Leave it out."
            raise ValueError(msg)
        cells = self._read(None)
        settings = {"max_iter": options["max_epochs"], "tol": options["tol"], "n_threads": options["n_threads"]}
        most = options["max_epochs"] * n_penalties(self.penalty)
        with progress_bar(type(self).__name__, most, at_most=True, show=progress) as bar:
            settings["on_iteration"] = bar.update
            if self.query_ is None:
                result = self._fit(cells.data, {**settings, "n_samples": n_samples, "seed": options["seed"]})
            else:
                result = self._fit_on_reference(cells.data, settings)
            bar.finish(result.reason)
        warn_stuck(result.stuck, len(cells.names), cells.names)
        summary = getattr(result, "summary", {})
        warn_of_weights(summary)
        self._conclude(cells, result, {**options, **summary})

    def _fit(self, data: CountData, settings: dict[str, Any]) -> PLNResult:
        """From scratch, or from a start."""
        likelihood = self._new_module().generative.likelihood
        settings |= {"likelihood": likelihood, "prior_precision": self.prior_precision}
        return self._estimator.fit(data, self._new_covariance(), **settings)

    def _fit_on_reference(self, data: CountData, settings: dict[str, Any]) -> PLNResult:
        """What is new about cells that were mapped onto a reference, whatever that was estimated by."""
        if callable(self.likelihood):
            msg = "Samples are mapped onto a reference of Poisson counts, and likelihood= of this one is a function. Fit them together with its own."
            raise ValueError(msg)
        settings |= {"posterior": self.posterior}
        covariance, growth = known_covariance(self.module), self._growth
        counts: dict[str, Any] = {"likelihood": self.module.generative.likelihood, "inflation": self.module.inflation}
        coefficients = self.module.coefficients.cpu().numpy().copy()
        if growth.is_new.any():
            coefficients[:, growth.is_new] = growth.average(coefficients, is_count=True)
            return fit_pln_columns(data, coefficients, covariance, growth.is_new, **counts, **settings)
        options: dict[str, Any] = {"posterior": self.posterior, "n_threads": settings["n_threads"]}
        cells = infer_pln(data, coefficients, covariance, **counts, **options)
        finite = bool(np.isfinite(cells.elbo).all())
        return PLNResult(
            **vars(cells),
            coefficients=coefficients,
            covariance=covariance,
            **counts,
            history={},
            converged=finite,
            reason=NOTHING_NEW,
        )

    def _conclude(self, cells: Cells, result: PLNResult, options: dict[str, object]) -> None:
        """Keep what was fitted, and say how it went."""
        module, data = self._new_module(self.module.known), cells.data
        mapped = self.query_ is not None
        scale = self.module.scale if mapped else np.linalg.cholesky(result.covariance.dense)
        inflation = self.module.inflation if mapped else result.inflation
        parts = self.module.parts if mapped else result.covariance.parts
        module.set_parameters(result.coefficients, scale, result.likelihood, inflation=inflation, parts=parts)
        residual = result.mean - data.design @ result.coefficients.T
        module.set_cells(residual, result.variance, result.weight, result.elbo)
        self.module = module
        found = self._judged(result.elbo, cells.names, converged=result.converged, reason=result.reason)
        found |= {name: value.tolist() for name, value in result.covariance.estimates.items()}
        found["n_parameters"] = self._n_parameters(result)
        if isinstance(result, NetworkResult):
            warn_of_end(self.penalty, result.path, result.penalty)
            found |= {"penalty": result.penalty, "network_path": result.path}
        threads = options["n_threads"]
        summary, found["reason"] = after_training(
            lambda: self._summarize_posteriors(data, module.posterior, options["seed"], threads),  # type: ignore[arg-type]
            {"reliability": None},
            found["reason"],
        )
        self._finish_training(cells, {**found, **summary, **options}, dict(result.history))

    def _n_parameters(self, result: PLNResult) -> int:
        """Those that were estimated."""
        if self.query_ is not None:
            return int(self._growth.is_new.sum()) * len(result.coefficients)
        of_counts = sum(parameter.numel() for parameter in result.likelihood.parameters())
        of_counts -= (result.likelihood.n_genes - 1) * (self.zero_inflation == "single")
        of_counts += 0 if result.inflation is None else result.inflation[:, 1:].size
        of_counts += len(result.elbo) * (self.zero_inflation == "cell")
        return result.coefficients.size + result.covariance.n_parameters + of_counts
