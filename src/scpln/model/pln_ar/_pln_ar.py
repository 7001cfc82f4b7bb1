"""The Poisson log-normal model of series: samples in time, of which each depends on the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from scpln.data import cell_positions
from scpln.inference.genespace.series import AutoregressionName, fit_pln_series
from scpln.model.abilities import Elbo, LikelihoodParameters, Predictive, PriorPredictive, conditions
from scpln.model.base import Annotation, Evaluated, warn_stuck
from scpln.model.pln import MOST_PRECISE, Covariances, check_size, training_options
from scpln.module import PLNARModule
from scpln.module.covariances import COVARIANCES
from scpln.utils import (
    as_bool,
    in_range,
    one_of,
    progress_bar,
    resolve_seed,
)

from ._columns import read_order
from ._states import follows, infer, module_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from scpln.data import Data
    from scpln.inference.genespace.series import Order
    from scpln.module import Posterior

#: Families of the covariance, and likelihoods, which are log-concave in log-rates; the defaults first.
CovarianceName = Literal["full", "diagonal", "spherical"]
LikelihoodName = Literal["poisson", "nb", "bernoulli"]
#: Most iterations, unless a user says so, and the largest inverse variance of coefficients: with it they are 0.
#: Most samples × genes²: the filter keeps three matrices of each sample.
MOST_NUMBERS = 10**8


class PLNAR(Covariances, LikelihoodParameters, Predictive, PriorPredictive, Elbo):
    r"""The Poisson log-normal model of series of counts, with autoregression of order 1.

    .. math::
        z_t = \Phi^{\Delta_t} z_{t-1} + \epsilon_t, \quad \epsilon_t \sim N(0, \Sigma - \Phi^{\Delta_t} \Sigma \Phi^{\Delta_t}), \quad
        \eta_{tj} = o_t + x_t \cdot B_j + z_{tj}, \quad y_{tj} \sim \text{Poisson}(e^{\eta_{tj}})

    for samples t of a series in their order, with the time :math:`\Delta_t` since the one before, known log size factors o and design x. The first of
    a series has :math:`z_1 \sim N(0, \Sigma)`, as all then have by themselves; series are independent. Each series has one Gaussian posterior of all its latent
    states, of any covariance between samples and genes, in time linear in its length. It is made for tables of samples in time or along an
    ordering, such as taxa by day and subject.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata`.
    order_key
        Column of ``obs`` with the time or position of each sample, numbers or dates. Rows may be in any order. A time step, over which φ is the
        autoregression, is the shortest time between samples of a series if all others are whole multiples of it, and otherwise the median.
    group_key
        Column of ``obs`` that says which series each sample is of; one series if None. A series has every time at most once.
    autoregression
        ``"scalar"``, :math:`\Phi = \phi I` with one φ for all genes, or ``"diagonal"``, a φ of each gene, for times that are whole
        multiples of a step. :math:`|\phi| < 1`; where times are not, φ > 0.
    covariance
        Family of Σ; with ``autoregression="diagonal"`` that of the covariance Q of :math:`\epsilon` over a time step, of which :math:`\Sigma_{jk} = Q_{jk} / (1 -
        \phi_j \phi_k)`: ``"full"``, ``"diagonal"`` or ``"spherical"``.
    likelihood
        Distribution of the counts: ``"poisson"``, ``"nb"`` or ``"bernoulli"``.
    prior_precision
        Inverse variance λ of a normal prior N(0, 1/λ) of all coefficients but intercepts, as for `PLN`.
    registry
        For loading; leave it out.

    References
    ----------
    J. Chiquet, M. Mariadassou and S. Robin (2021), The Poisson-lognormal model as a versatile framework for the joint analysis of species abundances, Frontiers
    in Ecology and Evolution 9: 588292. J. Durbin and S. J. Koopman (2012), Time Series Analysis by State Space Methods, Oxford University Press.

    Examples
    --------
    >>> import numpy as np, scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> adata.obs["subject"] = np.repeat(["a", "b", "c", "d"], 25)
    >>> adata.obs["day"] = np.tile(np.arange(25), 4)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLNAR(adata, "day", "subject")
    >>> model.train(progress=False)
    >>> model.get_autoregression().shape
    (8,)
    >>> model.annotate()
    >>> adata.obsm["X_plnar"].shape
    (100, 8)
    """

    module: PLNARModule

    def __init__(
        self,
        adata: Data | None = None,
        order_key: str | None = None,
        group_key: str | None = None,
        *,
        autoregression: AutoregressionName = "scalar",
        covariance: CovarianceName = "full",
        likelihood: LikelihoodName = "poisson",
        prior_precision: float = 1e-2,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("autoregression", autoregression, get_args(AutoregressionName))
        one_of("covariance", covariance, get_args(CovarianceName))
        one_of("likelihood", likelihood, get_args(LikelihoodName))
        self.order_key, self.group_key = order_key, group_key
        self.autoregression: AutoregressionName = autoregression
        self.covariance: CovarianceName = covariance
        self.likelihood: LikelihoodName = likelihood
        self.prior_precision = in_range("prior_precision", prior_precision, 0, MOST_PRECISE)
        check_size(self, "fullrank")
        if order_key is None:
            msg = "PLNAR needs the times of samples. Pass order_key='a column of adata.obs', and group_key= where there are several series."
            raise ValueError(msg)
        if adata is not None:
            self._order(adata, None)  # which checks it
        self.module = self._new_module()
        self.init_params_ = self._get_init_params(locals())

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-5,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over coefficients, covariance, autoregression and posteriors.

        Ctrl-C stops early and keeps the best parameters so far. Training again starts anew.

        Parameters
        ----------
        max_epochs
            At most so many iterations; by default 1,000.
        tol
            Converged when an iteration gains less than this, nats per sample, averaged over ten.
        seed
            Has no effect: there are no draws.
        n_threads
            Threads, between which series are shared out; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``.

        Raises
        ------
        ValueError
            If no sample follows another, or times do not suit the autoregression.
        """
        progress, options = as_bool("progress", progress), training_options(max_epochs, tol, seed, n_threads)
        cells, order = self._read(None), self._order(self._data_or_own(None), None)
        with progress_bar(type(self).__name__, options["max_epochs"], at_most=True, show=progress) as bar:
            fit = fit_pln_series(
                cells.data,
                order,
                COVARIANCES[self.covariance](len(self.genes)),
                self.autoregression,
                likelihood=self._new_module().generative.likelihood,
                prior_precision=self.prior_precision,
                max_iter=options["max_epochs"],
                tol=options["tol"],
                n_threads=options["n_threads"],
                on_iteration=bar.update,
            )
            bar.finish(fit.reason)
        warn_stuck(fit.stuck, len(cells.names), cells.names)
        self.module = module_of(self._new_module(), fit, cells.data, order)
        found = self._judged(fit.elbo, cells.names, converged=fit.converged, reason=fit.reason)
        of_counts = sum(parameter.numel() for parameter in fit.likelihood.parameters())
        found |= {
            "n_parameters": fit.coefficients.size + fit.process.n_parameters + of_counts,
            "n_series": order.n_series,
            "time_step": order.unit,
        }
        self._finish_training(cells, {**found, **options}, dict(fit.history))

    def get_autoregression(self) -> pd.Series:
        r"""Autoregression φ of each gene over a time step, (genes,): all the same for ``autoregression="scalar"``.

        By how much a deviation of the log-rate from what the design says is still there after a step; the correlation of log-rates over it. How long a step is,
        in the unit of ``order_key`` (days, of dates), is ``model.training_["time_step"]``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require_trained()
        return pd.Series(self.module.phi.cpu().numpy().copy(), index=self.genes, name="autoregression")

    def get_innovation_covariance(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Covariance Q of what is new in log-rates after a time step, :math:`Q = \Sigma - \Phi \Sigma \Phi` (genes × genes).

        Parameters
        ----------
        genes
            Names of genes, in the order to return; by default all.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        scale, phi = self._scale(), self.module.phi.cpu().numpy()
        return self._table(scale @ scale.T * (1 - np.outer(phi, phi)), genes)

    def _order(self, adata: Data, time_step: float | None) -> Order:
        """Which of these samples follow each other, in time steps that are as long as this, or as they suggest."""
        order = read_order(adata, str(self.order_key), self.group_key, time_step)
        p, n = len(self.genes), adata.n_obs
        if n * p**2 > MOST_NUMBERS:
            msg = (
                f"PLNAR keeps matrices of genes × genes of each sample, and {n:,} samples × {p:,} genes are too many: samples × genes² may be "
                f"{MOST_NUMBERS:,}. Choose genes, or fit parts of the series."
            )
            raise ValueError(msg)
        return order

    def _new_module(self) -> PLNARModule:
        """Module that is not trained."""
        return PLNARModule(len(self.genes), len(self.covariates), likelihood=self.likelihood)

    def _load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.module = self._new_module()
        self.module.load(tensors)

    def _is_training_data(self, adata: Data | None, positions: NDArray[np.intp] | None = None) -> bool:
        """Whether all samples, not just the chosen ones, and their order are what the model was trained on."""
        if not super()._is_training_data(adata):
            return False
        if adata is None and self.adata is None:
            return True
        now = follows(self._order(self._data_or_own(adata), self.module.time_step.item()))
        return np.array_equal(now, self.module.follows.cpu().numpy())

    def _infer(
        self,
        adata: Data | None,
        indices: Any,
        *,
        batch_size: int | None = None,
        refine: int = 0,
        with_elbo: bool | Literal["exact"] = False,
        seed: int | None = None,
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """Posterior and share of the bound of each sample: stored ones of training samples, or new ones, given whole series."""
        self._require_trained()
        self._check_inference(batch_size, refine)
        resolve_seed(seed)
        positions = self._positions(adata, indices)
        chosen = slice(None) if positions is None else positions
        if self._is_training_data(adata):
            return self.module.posterior(positions), self.module.elbo.cpu().numpy()[chosen]
        own = self._data_or_own(adata)
        cells = self._read(own)
        order = self._order(own, self.module.time_step.item())
        posterior, values = infer(self.module, self.autoregression, cells.data, order, cells.names)
        return posterior[chosen], values[chosen]

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """The bound, and samples' shares of it."""
        values = np.asarray(self.get_elbo(adata, indices, return_mean=False))
        positions = cell_positions(indices, adata.n_obs)
        names = adata.obs_names if positions is None else adata.obs_names[positions]
        cells = pd.DataFrame({"elbo": values}, index=names)
        notes = {"elbo": f"nats per cell{conditions(self)}"}
        return super()._evaluation(adata, indices, n_samples, seed).plus({"elbo": values.mean()}, cells, notes=notes)

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        posterior, values = self._infer(adata, None)
        if as_bool("diagnostics", diagnostics):
            msg = "PLNAR has no diagnostics of single samples, whose posteriors depend on each other. Leave diagnostics out."
            raise ValueError(msg)
        phi = self.get_autoregression()
        return Annotation(
            latent=posterior.mean.astype(np.float32),
            obs={"elbo": values},
            var=self.get_gene_parameters().assign(autoregression=phi),
            varm={"coefficients": self.get_coefficients()},
            varp={"correlation": self.get_correlation()},
            uns={
                "elbo": self._mean_bound(values, adata.obs_names),
                "covariates": self.covariates,
                "autoregression": phi.to_numpy() if self.autoregression == "diagonal" else float(phi.iloc[0]),
                "time_step": self.module.time_step.item(),
            },
        )
