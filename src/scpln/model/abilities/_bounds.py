"""Bounds of each cell's log-likelihood, and how far its posterior can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi

from scpln.data import cell_positions
from scpln.inference import finite_mean, judged, log_weights, summarize_weights
from scpln.model.base import UNRELIABLE, reliability_in_words
from scpln.utils import MOST_DRAWS, as_bool, positive_integer, resolve_seed, slow_bar, warn

from ._latent import LatentModel
from ._terms import BoundTerms, conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import CountData
    from scpln.data import Data
    from scpln.model.base import Evaluated
    from scpln.module import Posterior

#: Draws of each cell that its diagnostics are computed from.
DIAGNOSTIC_DRAWS = 500
#: Cells that a warning names.
MOST_NAMED = 5
#: Draws × cells × genes that the summary after training may cost, and draws of each cell in it.
_SUMMARY_ENTRIES, _SUMMARY_DRAWS = 2e7, 128


class Elbo(LatentModel):
    """Models that give each cell its share of a bound of the log-likelihood."""

    def get_elbo(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        return_mean: bool = True,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> float | NDArray[np.float64]:
        """Evidence lower bound of each cell's counts, given its size factor, if it has one: nats, higher is better.

        With the full log-factorial. Of PLN-PCA with Gaussian posteriors it is exact (in closed form for Poisson counts, by
        quadrature for other likelihoods), and that of training cells is the one that training ended with. Under flows,
        and of autoencoders, it is the mean over draws.

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_posterior`.
        return_mean
            Whether to return the mean over cells, or one value for each (n,).
        seed
            Of the draws, where it takes some; by default ``scvi.settings.seed``, or 0.
        """
        values = self._infer(adata, indices, batch_size=batch_size, refine=refine, with_elbo=True, seed=seed)[1]
        return float(values.mean()) if as_bool("return_mean", return_mean) else values

    def _judged(self, elbo: NDArray[np.float64], names: pd.Index, *, converged: bool, reason: str) -> dict[str, Any]:
        """Mean bound, whether training converged, and why it ended: it did not where a bound is not finite."""
        if not ("interrupted" in reason and np.isnan(elbo).all()):  # before there were any
            converged, reason = judged(converged, reason, elbo)
        return {"elbo": self._mean_bound(elbo, names), "converged": converged, "reason": reason}

    @staticmethod
    def _mean_bound(elbo: NDArray[np.float64], names: pd.Index) -> float:
        """Mean of the bounds that are finite; a warning names the cells whose bound is not, if any has one."""
        wrong = np.flatnonzero(~np.isfinite(elbo))
        if len(wrong) > 0 and not np.isnan(elbo).all():  # Ctrl-C may have come before there were any
            shown = ", ".join(map(repr, names[wrong[:MOST_NAMED]])) + (", …" if len(wrong) > MOST_NAMED else "")
            warn(
                f"The bounds of {len(wrong):,} of {len(elbo):,} cells are not finite: {shown}. They are left out of the mean bound, and "
                "have no diagnostics; everything else is kept. Look for a count, size factor or covariate of these cells that is "
                "extreme, or leave them out."
            )
        return finite_mean(elbo)


class Bounds(Elbo, BoundTerms):
    """Models that give each cell a posterior q(z | y) and can evaluate log p(y, z)."""

    def get_iw_bound(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        n_samples: int = 1000,
        return_mean: bool = True,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> float | NDArray[np.float64]:
        r"""Importance-weighted bound of each cell's log-likelihood, given its size factor, in nats.

        .. math::
            \log \frac1K \sum_{k=1}^K \frac{p(y_i, z_k)}{q(z_k \mid y_i)}, \quad z_k \sim q(z \mid y_i),

        which on average rises with K from the ELBO (K = 1) to :math:`\log p(y_i)`. Draws are made in chunks, so that
        memory does not grow with K; a cell's draws depend on its position in `adata` and the seed only.

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_posterior`.
        n_samples
            Draws K of each cell.
        return_mean
            Whether to return the mean over cells, or one value for each (n,).
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        References
        ----------
        Y. Burda, R. Grosse and R. Salakhutdinov (2016), Importance weighted autoencoders, ICLR.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> model.get_iw_bound(n_samples=500) > model.get_elbo()
        True
        """
        n_samples, seed = positive_integer("n_samples", n_samples, most=MOST_DRAWS), resolve_seed(seed)
        posterior, _ = self._infer(adata, indices, batch_size=batch_size, refine=refine, seed=seed)
        values = np.empty(len(posterior))
        for cells, weights in self._log_weights(posterior, adata, indices, n_samples, seed):
            values[cells] = summarize_weights(weights).iw_bound
        return float(values.mean()) if as_bool("return_mean", return_mean) else values

    def get_posterior_diagnostics(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        n_samples: int = DIAGNOSTIC_DRAWS,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> pd.DataFrame:
        r"""How close each cell's posterior is to the exact one, from importance weights of draws.

        Parameters
        ----------
        adata, indices, batch_size, refine
            As in `get_posterior`.
        n_samples
            Draws of each cell; a few hundred are needed for k̂, which is NaN with fewer than 25.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Table with one row for each cell:

        ``elbo``
            Evidence lower bound, nats.
        ``iw_bound``
            Importance-weighted bound with `n_samples` draws, nats.
        ``gap``
            Their difference: an estimate, from below, of KL(q ‖ exact posterior). A little below 0 where the draws'
            noise exceeds it.
        ``ess``
            Effective sample size :math:`(\sum_k w_k)^2 / \sum_k w_k^2` as a share of the draws, in (0, 1].
        ``pareto_k``
            Shape k̂ of the weights' tail, however little the tail weighs. Below 0.5 all is well; above 0.7 importance
            sampling converges slowly, and where ``ess`` is small too, q misses a part of the exact posterior, and the
            cell's bounds and expectations are unreliable. ∞ where one draw has all the weight.

        Cells whose ``elbo`` is not finite have no diagnostics: NaN.

        References
        ----------
        A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
        Y. Yao, A. Vehtari, D. Simpson and A. Gelman (2018), Yes, but did it work? Evaluating variational inference,
        ICML.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> list(model.get_posterior_diagnostics(indices=[0, 1]).columns)
        ['elbo', 'iw_bound', 'gap', 'ess', 'pareto_k']
        """
        n_samples, seed = positive_integer("n_samples", n_samples, most=MOST_DRAWS), resolve_seed(seed)
        posterior, elbo = self._infer(adata, indices, batch_size=batch_size, refine=refine, with_elbo=True, seed=seed)
        names = self._data_or_own(adata).obs_names
        positions = cell_positions(indices, len(names))
        columns = self._diagnose(posterior, elbo, adata, indices, n_samples, seed)
        return pd.DataFrame({"elbo": elbo, **columns}, index=names if positions is None else names[positions])

    def _diagnose(
        self,
        posterior: Posterior,
        elbo: NDArray[np.float64],
        adata: AnnData | MuData | None,
        indices: Any,
        n_samples: int,
        seed: int,
    ) -> dict[str, NDArray[np.float64]]:
        """Columns of `get_posterior_diagnostics`, besides the bound itself."""
        columns = {name: np.full(len(posterior), np.nan) for name in ("iw_bound", "gap", "ess", "pareto_k")}
        known = np.flatnonzero(np.isfinite(elbo))
        if len(known) < len(elbo):
            positions = cell_positions(indices, self._data_or_own(adata).n_obs)
            posterior, indices = posterior[known], known if positions is None else positions[known]
        for block, weights in self._log_weights(posterior, adata, indices, n_samples, seed) if len(known) else ():
            summary, cells = summarize_weights(weights, tail=True), known[block]
            columns["iw_bound"][cells] = summary.iw_bound
            columns["gap"][cells] = summary.iw_bound - elbo[cells]
            columns["ess"][cells] = summary.ess
            columns["pareto_k"][cells] = summary.pareto_k
        return columns

    def _diagnostic_columns(
        self, posterior: Posterior, elbo: NDArray[np.float64], adata: Data, diagnostics: bool
    ) -> dict[str, NDArray[np.float64]]:
        """The same for `annotate`; nothing unless they are asked for."""
        if not as_bool("diagnostics", diagnostics):
            return {}
        return self._diagnose(posterior, elbo, adata, None, DIAGNOSTIC_DRAWS, resolve_seed(None))

    def _log_weights(
        self, posterior: Posterior, adata: AnnData | MuData | None, indices: Any, n_samples: int, seed: int
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Log-weights of draws, block by block."""
        adata = self._data_or_own(adata)
        positions = cell_positions(indices, adata.n_obs)
        data = self._with_own(self._read(adata, positions).data, posterior)
        weights = log_weights(
            data,
            self.module.generative,
            posterior,
            n_samples=n_samples,
            seed=seed,
            positions=positions,
            n_threads=scvi.settings.num_threads,
        )
        with slow_bar(f"{type(self).__name__}, importance weights", data.n_cells, unit="cell") as done:
            for cells, values in weights:
                yield cells, values
                done(cells.stop)

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """Bounds, what they are made of, how far posteriors can be trusted, and the use of latent dimensions."""
        found = super()._evaluation(adata, indices, n_samples, seed)
        terms = self.get_bound_terms(adata, indices, seed=seed)
        weights = self.get_posterior_diagnostics(adata, indices, n_samples, seed=seed)
        cells = terms.assign(**{name: weights[name].to_numpy() for name in ("iw_bound", "ess", "pareto_k")})
        dimensions = self.get_latent_dimensions(adata, indices, seed=seed)
        means, tails = cells.mean(), cells["pareto_k"].dropna()
        unit = f"nats per cell{conditions(self)}"
        return found.plus(
            {
                "elbo": means["elbo"],
                "elbo_se": cells["elbo"].std() / np.sqrt(len(cells)),
                "iw_bound": means["iw_bound"],
                **{name: means[name] for name in ("reconstruction", "kl", "kl_z", "kl_k") if name in terms},
                "unreliable": (tails > UNRELIABLE).mean(),
                "n_latent": len(dimensions),
                "n_active": dimensions["active"].sum(),
            },
            cells,
            dimensions,
            {"elbo": unit, "iw_bound": f"{unit}; {n_samples:,} draws"},
        )

    def _status(self) -> dict[str, str]:
        """State of training, and how far the posteriors can be trusted."""
        words = reliability_in_words(self.training_)
        return super()._status() if words is None else {**super()._status(), "posteriors": words}

    def _summarize_posteriors(
        self, data: CountData, posterior_of: Callable[[NDArray[np.intp]], Posterior], seed: int, n_threads: int | None
    ) -> dict[str, Any]:
        """How far the posteriors can be trusted, from some of the training cells: ``reliability``.

        It has ``gap`` (nats per cell from the bound to an importance-weighted one), ``unreliable`` (share of cells
        with Pareto k̂ above 0.7) and ``n_cells``, the cells that were looked at.
        """
        n_cells = int(np.clip(_SUMMARY_ENTRIES / (_SUMMARY_DRAWS * data.n_genes), 20, 1000))
        chosen = np.unique(np.linspace(0, data.n_cells - 1, min(n_cells, data.n_cells)).astype(int))
        posterior = posterior_of(chosen)
        weights = log_weights(
            self._with_own(data.subset(chosen), posterior),
            self.module.generative,
            posterior,
            n_samples=_SUMMARY_DRAWS,
            seed=seed,
            positions=chosen,
            n_threads=n_threads,
        )
        n_above, gap = 0, 0.0
        n_known = 0
        for _, values in weights:
            known = values[:, np.isfinite(values).all(0)]
            if known.shape[1]:
                summary = summarize_weights(known, tail=True)
                n_above += int((summary.pareto_k > UNRELIABLE).sum())
                gap += float((summary.iw_bound - known.mean(0)).sum())
                n_known += known.shape[1]
        if not n_known:
            return {"reliability": None}
        return {"reliability": {"gap": gap / n_known, "unreliable": n_above / n_known, "n_cells": n_known}}
