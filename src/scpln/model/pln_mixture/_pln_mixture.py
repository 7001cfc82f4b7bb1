"""A mixture of Poisson log-normal models: clusters of samples, with a mean and a covariance each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from scpln.inference.genespace import PosteriorName
from scpln.inference.genespace.mixture import fit_pln_mixture
from scpln.model.base import warn_stuck
from scpln.model.pln import MOST_PRECISE, check_size, checked_factors, factor_table, training_options
from scpln.module.covariances import COVARIANCES, Factor
from scpln.utils import as_bool, in_range, one_of, positive_integer_or_none, progress_bar

from ._components import GeneSpaceMixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.data import Cells, Data
    from scpln.inference.genespace.mixture import PLNMixtureResult
    from scpln.module.covariances import Covariance

#: Families of the components' covariances, the default first.
CovarianceName = Literal["full", "diagonal", "spherical", "factor"]


class PLNMixture(GeneSpaceMixture):
    r"""A mixture of Poisson log-normal models of counts, in the space of the genes: clusters of samples.

    .. math::
        k_i \sim \pi, \quad z_i \mid k_i \sim N(\mu_{k_i}, \Sigma_{k_i}), \quad \eta_{ij} = o_i + x_i \cdot B_j + z_{ij}, \quad
        y_{ij} \sim \text{Poisson}(e^{\eta_{ij}})

    with known log size factors o and design x, whose coefficients B all components share. Each sample has a Gaussian posterior under
    each component, at which the bound of :math:`\log p(y_i \mid k)` is :math:`L_{ik}`; given these, probabilities of the components are exact,
    :math:`\tau_{ik} \propto \pi_k e^{L_{ik}}`, and the bound that is maximised is :math:`\sum_i \log \sum_k \pi_k e^{L_{ik}}`, below
    :math:`\sum_i \log p(y_i)`. Latent states are counted from the average of the components' means.

    It is made for tables of samples: taxa by site, cell types by donor, gene panels. For thousands of genes take
    ``PLNPCA(n_components=...)`` or `CountGMVAE`.

    Parameters
    ----------
    adata
        AnnData after `scpln.model.setup_anndata`.
    n_components
        Components K; or several numbers, or None for 1, 2, … up to 10, of which the integrated completed likelihood (ICL) chooses one:
        see `get_component_selection`.
    covariance
        Family of the :math:`\Sigma_k`: ``"full"``; or ``"diagonal"`` and ``"spherical"`` for genes that are independent within components,
        with a variance each or one for all; or ``"factor"``, :math:`C_k C_k^T + \text{diag}(\psi_k)` with `n_factors` columns of each C. A full one
        has p (p + 1) / 2 parameters for every component: with few samples ICL takes one component then, and more of the other families.
    n_factors
        Factors of ``"factor"``, from 1 to genes − 1, the same number for every component.
    posterior
        Variational family of each sample under each component: ``"fullrank"`` or ``"meanfield"``, as for `PLN`.
    prior_precision
        Inverse variance λ of a normal prior N(0, 1/λ) of coefficients, as for `PLN`; components' means have none.
    registry
        For loading; leave it out.

    References
    ----------
    J. Chiquet, M. Mariadassou and S. Robin (2021), The Poisson-lognormal model as a versatile framework for the joint analysis of species abundances, Frontiers
    in Ecology and Evolution 9: 588292. C. Biernacki, G. Celeux and G. Govaert (2000), Assessing a mixture model for clustering with the
    integrated completed likelihood, IEEE Transactions on Pattern Analysis and Machine Intelligence 22(7): 719-725.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLNMixture(adata, 2, covariance="spherical")
    >>> model.train(progress=False)
    >>> model.get_means().shape
    (8, 2)
    >>> model.annotate()
    >>> adata.obs["plnmixture_cluster"].cat.categories.to_list(), adata.obsm["plnmixture_cluster_probs"].shape
    (['0', '1'], (100, 2))
    """

    def __init__(
        self,
        adata: Data | None = None,
        n_components: int | Sequence[int] | None = None,
        *,
        covariance: CovarianceName = "full",
        n_factors: int | None = None,
        posterior: PosteriorName = "fullrank",
        prior_precision: float = 1e-2,
        registry: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry=registry)
        one_of("covariance", covariance, get_args(CovarianceName))
        one_of("posterior", posterior, get_args(PosteriorName))
        self._n_components = n_components = self._check_n_components(n_components)
        self.covariance: CovarianceName = covariance
        self.n_factors = checked_factors(n_factors, covariance, len(self.genes))
        self.posterior: PosteriorName = posterior
        self.prior_precision = in_range("prior_precision", prior_precision, 0, MOST_PRECISE)
        check_size(self, posterior)
        self.module = self._new_module(n_components if isinstance(n_components, int) else 1)
        self.init_params_ = self._get_init_params(locals())
        self.init_params_["non_kwargs"]["n_factors"] = self.n_factors

    @property
    def n_components(self) -> int | None:
        """Number of components K; None as long as training has to choose it."""
        if self.is_trained_:
            return self.module.n_components
        return self._n_components if isinstance(self._n_components, int) else None

    def _new_covariance(self) -> Covariance:
        """Σ of a component, as it starts."""
        if self.n_factors is not None:
            return Factor(len(self.genes), self.n_factors)
        return COVARIANCES[self.covariance](len(self.genes))

    def get_factor_loadings(self, component: Any = 0, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Loadings C and uniquenesses ψ of a component, :math:`\Sigma_k = C_k C_k^T + \text{diag}(\psi_k)` (genes × factors and one more).

        Columns are those of `PLN.get_factor_loadings`.

        Parameters
        ----------
        component, genes
            As in `get_covariance`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If its covariance is not ``"factor"``, or there is no such component.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNMixture(adata, 1, covariance="factor", n_factors=2)
        >>> model.train(progress=False)
        >>> list(model.get_factor_loadings(0))
        ['factor_1', 'factor_2', 'uniqueness']
        """
        self._require_trained()
        return factor_table(self, self.module.parts[self._component(component)], genes)

    def _check_n_components(self, given: int | Sequence[int] | None) -> int | list[int] | None:
        """Components that these data can have."""
        several = isinstance(given, list | tuple | range)
        if several and not len(given):  # type: ignore[arg-type]
            msg = "n_components=[], but there has to be a number to choose. Pass n_components=[1, 2, 3], or None."
            raise ValueError(msg)
        numbers = [positive_integer_or_none("n_components", each) for each in (given if several else [given])]  # type: ignore[union-attr]
        n = int(self.summary_stats.n_cells)
        most = max((each for each in numbers if each is not None), default=1)
        if most > n and self.adata is not None:
            msg = f"n_components={most:,}, but it can be at most {n:,}; clusters are of several cells each."
            raise ValueError(msg)
        return sorted({each for each in numbers if each is not None}) if several else numbers[0]

    def train(
        self,
        max_epochs: int | None = None,
        *,
        tol: float = 1e-5,
        seed: int | None = None,
        n_threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Maximise the bound over weights, means, covariances, coefficients and posteriors, from several starts.

        Ctrl-C stops early and keeps the best parameters so far. Training again starts anew.

        Parameters
        ----------
        max_epochs
            At most so many iterations of each start; by default 1,000.
        tol
            Converged when an iteration gains less than this, nats per cell, averaged over ten.
        seed
            Of the starts, and of the draws that the summary of the posteriors is made from. By default ``scvi.settings.seed``, or 0.
        n_threads
            Threads; by default ``scvi.settings.num_threads``, or all cores.
        progress
            Whether to show a progress bar, in the style of ``scvi.settings.progress_bar_style``: that of one start after the other.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNMixture(adata, [1, 2], covariance="diagonal")
        >>> model.train(progress=False)
        >>> model.get_component_selection().index.to_list()
        [1, 2]
        """
        progress, options = as_bool("progress", progress), training_options(max_epochs, tol, seed, n_threads)
        cells = self._read(None)
        with progress_bar(type(self).__name__, options["max_epochs"], at_most=True, show=progress) as bar:
            result = fit_pln_mixture(
                cells.data,
                self._new_covariance(),
                self._n_components,
                posterior=self.posterior,
                prior_precision=self.prior_precision,
                seed=options["seed"],
                max_iter=options["max_epochs"],
                tol=options["tol"],
                n_threads=options["n_threads"],
                on_iteration=bar.update,
            )
            bar.finish(result.reason)
        warn_stuck(result.stuck, len(cells.names), cells.names)
        self._conclude(cells, result, options)

    def _conclude(self, cells: Cells, result: PLNMixtureResult, options: dict[str, Any]) -> None:
        """Keep what was fitted, and say how it went."""
        found = self._judged(result.elbo, cells.names, converged=result.converged, reason=result.reason)
        table = pd.DataFrame([each.row for each in result.criteria])
        found["selection"] = {name: table[name].to_list() for name in table}
        found["n_parameters"] = result.parameters.n_parameters
        self._keep(cells, result.parameters, result, found, options, dict(result.history))

    def get_component_selection(self) -> pd.DataFrame:
        r"""Numbers of components that were tried, and what each is worth, in nats: the higher the better.

        Returns
        -------
        Table with one row for each number K of components:

        ``bound``
            Sum J of the bounds of all cells.
        ``n_parameters``
            Free numbers ν.
        ``bic``
            :math:`J - \frac12 \nu \log n`.
        ``icl``
            The same less the entropy of the probabilities of components, :math:`-\sum_{ik} \tau_{ik} \log \tau_{ik}`: that with the highest is
            taken.
        ``n_used``
            Components that are the most probable one of some cell.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require_trained()
        return pd.DataFrame(self.training_["selection"]).set_index("n_components")
