"""PLN-PCA: Poisson counts whose log-rates are linear in a few latent dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import scvi

from scpln.inference import FitResult, Posterior, elbo, fit, infer
from scpln.module import GaussianPosterior, PLNPCAModule

from ._annotation import Annotation
from ._arguments import one_of, positive_integer, positive_integer_or_none, positive_number, resolve_seed
from ._data import cell_positions
from ._linear import LinearDecoder
from ._predictive import Predictive
from ._progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

MAX_EPOCHS = 500


class PLNPCA(LinearDecoder, Predictive):
    r"""Poisson log-normal principal component analysis of counts.

    .. math::
        z_i \sim N(0, I_q), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_i \cdot C_j, \quad
        y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    with known log size factors o and design x. Each cell's posterior of z is a Gaussian, and the evidence lower bound,
    which has a closed form, is maximised over those and the coefficients B and loadings C. C is rotated so that its
    columns are orthogonal, in the order of the variance that they explain, with the largest entry of each positive;
    latent states are in these coordinates.

    Parameters
    ----------
    adata
        Annotated data, after `scpln.model.setup_anndata`.
    n_latent
        Latent dimensions q, at most the number of cells and of genes.
    posterior
        Covariances of the posteriors: ``"fullrank"``, any; ``"meanfield"``, all diagonal in the same axes, which gives
        a lower bound.
    likelihood
        Distribution of the counts: ``"poisson"``.
    registry
        For loading; leave it out.

    References
    ----------
    J. Chiquet, M. Mariadassou and S. Robin (2018), Variational inference for probabilistic Poisson PCA, Annals of
    Applied Statistics 12(4): 2674-2698.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=300, n_vars=50, n_latent=3)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLNPCA(adata, n_latent=3)
    >>> model.train(progress=False)
    >>> model.get_loadings().shape
    (50, 3)
    >>> model.annotate()
    >>> adata.obsm["X_plnpca"].shape
    (300, 3)
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 10,
        *,
        posterior: Posterior = "fullrank",
        likelihood: Literal["poisson"] = "poisson",
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("posterior", posterior, get_args(Posterior))
        one_of("likelihood", likelihood, ("poisson",))
        n_latent = positive_integer("n_latent", n_latent)
        self._check_n_latent(n_latent)
        self.n_latent = n_latent
        self.posterior: Posterior = posterior
        self.likelihood = likelihood
        self.module = PLNPCAModule.empty(len(self.genes), len(self.covariates), n_latent)
        self.init_params_ = self._get_init_params(locals())

    def _check_n_latent(self, n_latent: int) -> None:
        """These data must be able to have that many dimensions."""
        n, p = self.summary_stats.n_cells, self.summary_stats.n_vars
        if n_latent > min(n, p):
            msg = (
                f"n_latent={n_latent}, but it can be at most {min(n, p):,}, the smaller of the numbers of cells ({n:,}) "
                f"and genes ({p:,})."
            )
            raise ValueError(msg)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-4,
        batch_size: int | None = None,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over coefficients, loadings and posteriors.

        Ctrl-C stops early and keeps the best parameters so far (before the first iteration, the model stays as it
        was). Training again starts anew.

        Parameters
        ----------
        max_epochs
            At most so many passes over the data; by default 500.
        tol
            Converged when an iteration gains less than this many nats per cell, averaged over ten, or when the gradient
            promises less than a twentieth of it.
        batch_size
            Cells that are in memory at a time, for data on disk; by default as many as suit the processor's cache.
        seed
            Seed of the starting point; by default ``scvi.settings.seed``, or 0.
        n_threads
            Threads; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.
        """
        options: dict[str, Any] = {
            "max_epochs": positive_integer("max_epochs", MAX_EPOCHS if max_epochs is None else max_epochs),
            "tol": positive_number("tol", tol),
            "batch_size": positive_integer_or_none("batch_size", batch_size),
            "seed": resolve_seed(seed),
        }
        threads = positive_integer_or_none("n_threads", n_threads) or scvi.settings.num_threads
        cells = self._read(None)
        with progress_bar(type(self).__name__, options["max_epochs"], show=progress) as bar:
            result = fit(
                cells.data,
                self.n_latent,
                posterior=self.posterior,
                max_iter=options["max_epochs"],
                tol=options["tol"],
                seed=options["seed"],
                batch_size=options["batch_size"],
                n_threads=threads,
                on_iteration=bar.update,
            )
            bar.finish(result.reason)
        self._store(result)
        outcome = {"converged": result.converged, "reason": result.reason, "elbo": float(result.elbo.mean())}
        self._finish_training(cells, {**outcome, **options}, result.history)

    def _store(self, result: FitResult) -> None:
        self.module = PLNPCAModule(
            result.coefficients, result.loadings, result.mean, result.covariance, result.elbo, result.rotation
        )

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = PLNPCAModule(**tensors)

    def get_posterior(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        batch_size: int | None = None,
    ) -> GaussianPosterior:
        """Posteriors of the latent states, in the coordinates of `get_loadings`.

        Parameters
        ----------
        adata
            Annotated data with the model's genes, in any order; by default the model's own. It may be a view or
            backed, and need not be set up. Posteriors of cells that the model was not trained on are optimised, with
            coefficients and loadings as they are.
        indices
            Positions of cells, or a mask over them; by default all.
        batch_size
            Cells that are in memory at a time.

        Returns
        -------
        Object with ``mean`` (n × q), ``covariance`` (n × q × q), ``sample(n, seed)`` and ``log_prob(z)``.
        """
        return self._infer(adata, indices, batch_size=batch_size)[0]

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        return_dist: bool = False,
        *,
        batch_size: int | None = None,
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posterior means of the latent states, (n, q).

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`.
        return_dist
            Whether to return means and variances, (n, q) each.
        """
        posterior = self.get_posterior(adata, indices, batch_size=batch_size)
        mean = posterior.mean.astype(np.float32)
        return (mean, posterior.variance.astype(np.float32)) if return_dist else mean

    def get_elbo(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        return_mean: bool = True,
        *,
        batch_size: int | None = None,
    ) -> float | NDArray[np.float64]:
        """Evidence lower bound of each cell's counts, given its size factor: nats, higher is better.

        Exact, with the full log-factorial; of training cells the one that training ended with.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`.
        return_mean
            Whether to return the mean over cells, or one value for each (n,).
        """
        values = self._infer(adata, indices, batch_size=batch_size, with_elbo=True)[1]
        return float(values.mean()) if return_mean else values

    def _infer(
        self, adata: AnnData | None, indices: Any, *, batch_size: int | None = None, with_elbo: bool = False
    ) -> tuple[GaussianPosterior, NDArray[np.float64]]:
        """Posterior and, if asked for, bound of each cell: stored ones of training cells, or optimised."""
        self._require_trained()
        if self._is_training_data(adata):
            chosen = cell_positions(indices, len(self.module.mean))
            values = self.module.elbo.cpu().numpy()
            return self.module.posterior(chosen), values if chosen is None else values[chosen]
        adata = self._data_or_own(adata)
        data = self._read(adata, cell_positions(indices, adata.n_obs)).data
        b, c = self.module.coefficients.cpu().numpy(), self.module.loadings.cpu().numpy()
        rotation = self.module.rotation.cpu().numpy()
        threads = scvi.settings.num_threads
        mean, covariance = infer(
            data, b, c, posterior=self.posterior, rotation=rotation, batch_size=batch_size, n_threads=threads
        )
        values = np.empty(0)
        if with_elbo:
            values = elbo(data, b, c, mean, covariance, batch_size=batch_size, n_threads=threads)
        return GaussianPosterior(mean, covariance), values

    def _annotation(self, adata: AnnData) -> Annotation:
        posterior, values = self._infer(adata, None, with_elbo=True)
        return Annotation(
            latent=posterior.mean.astype(np.float32),
            elbo=values,
            varm={"loadings": self.get_loadings()},
            uns={"variance_explained": self.get_variance_explained().to_numpy()},
        )
