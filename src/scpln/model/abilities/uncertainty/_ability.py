"""Intervals of expression and posteriors of states that know how uncertain the parameters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scvi
from scipy.stats import norm

from scpln.core import threads
from scpln.data import cell_positions
from scpln.inference import make_cell_problem
from scpln.inference.newton import CellStates
from scpln.inference.uncertainty import GeneUncertainty
from scpln.model.abilities._predictive import Predictive
from scpln.module import GaussianPosterior
from scpln.utils import as_bool, in_range

from ._factor_errors import FactorErrors
from ._parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike

    from scpln.module import PLNPCAModule, Posterior


class Uncertainty(FactorErrors, Predictive):
    """Models with a linear decoder, the uncertainty of whose parameters follows from the cells that they were trained on."""

    module: PLNPCAModule
    #: Of the module that it belongs to.
    _gene_uncertainty: tuple[PLNPCAModule, GeneUncertainty] | None = None

    def get_posterior(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        parameter_uncertainty: bool = False,
        batch_size: int | None = None,
        refine: int = 0,
        seed: int | None = None,
    ) -> Posterior:
        r"""Posteriors of the latent states, in the coordinates of `get_loadings`.

        Parameters
        ----------
        adata
            Annotated data with the model's genes, in any order; by default the model's own. It may be a view or
            backed, and need not be set up. Posteriors of cells that the model was not trained on are optimised, or
            encoded if the model is amortized, with all parameters as they are.
        indices
            Positions of cells, or a mask over them; by default all.
        parameter_uncertainty
            Whether covariances take in that coefficients and loadings are uncertain: by how much the posterior's mean moves with
            each gene's, of which the training cells tell the covariance :math:`S_j`. Latent states themselves are identified up to
            the rotation and scale of the latent space, whose uncertainty all cells share and which is not in there. Of Gaussian posteriors.
            Without it, covariances are those for parameters that are known, and are too small where cells are few.
        batch_size
            Cells that are in memory at a time.
        refine
            Gradient steps by which each cell's own Gaussian is then improved, with everything else as it is: for what
            an encoder or a flow, which cells share, has missed. 50 is usual.
        seed
            Of the draws of these steps; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Object with ``mean`` (n × q), ``covariance`` (n × q × q), ``sample(n, seed)`` and ``log_prob(z)``.

        Raises
        ------
        ValueError
            If parameter uncertainty is asked for of posteriors that are not Gaussian, or the training cells are not there.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> model.get_posterior()
        GaussianPosterior(100 cells, 2 latent dimensions)
        >>> wider = model.get_posterior(indices=[0, 1], parameter_uncertainty=True)
        >>> bool((wider.variance > model.get_posterior(indices=[0, 1]).variance).all())
        True
        """
        posterior = super().get_posterior(adata, indices, batch_size=batch_size, refine=refine, seed=seed)
        if not as_bool("parameter_uncertainty", parameter_uncertainty):
            return posterior
        if not posterior.is_gaussian:
            msg = (
                "parameter_uncertainty=True widens Gaussian posteriors, and this model's are not. Leave it out, or take "
                "get_expression_interval, which needs their means and covariances only."
            )
            raise ValueError(msg)
        genes = self._uncertainty_of_genes()
        with threads(scvi.settings.num_threads) as pool:
            adata = self._data_or_own(adata)
            data = self._read(adata, cell_positions(indices, adata.n_obs)).data
            problem = make_cell_problem(data, *parameters_of(self.module)[1:], pool, batch_size)
            cells = CellStates.known(posterior.mean, posterior.packed_covariance)
            return GaussianPosterior(posterior.mean, genes.state_covariance(problem, cells))

    def get_expression_interval(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        level: float = 0.9,
        *,
        transform_batch: str | float | None = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1,
        parameter_uncertainty: bool = True,
        batch_size: int | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        r"""Intervals in which the rate of each cell and gene lies with a given probability.

        Log-rates are taken as normal, with variance

        .. math:: \mathrm{Var}[\eta_{ij}] = C_j^T V_i C_j + u_i^T S_j u_i + \mathrm{tr}(S_j^{CC} V_i), \quad u_i = (x_i, m_i)

        for a posterior of the cell's state with mean m and covariance V, and covariances S of each gene's coefficients and loadings (B_j, C_j).
        The first term is that of the state for known parameters, the others that of the parameters (`GeneUncertainty`). In simulated counts,
        intervals at 90 % hold 88 to 91 % of true log-rates with 200 to 1,000 cells, 100 to 500 genes, and 3 or 10 dimensions;
        without the parameters' part it is 48 to 84 %. Where a learned prior finds a few of many dimensions only, as under nineteen zeros
        in twenty in a few hundred cells, what the others
        would add is missing. It is the rate that the interval is of, not the count, which varies around it.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_posterior`.
        level
            Probability, from 0.01 to 0.999.
        transform_batch
            Batch to which all cells are moved in the design; by default each cell's own.
        gene_list
            Names of genes, in the order to return; by default all.
        library_size
            As in `get_normalized_expression`.
        parameter_uncertainty
            Whether to count in that coefficients and loadings are uncertain. Without, the training cells are not needed.

        Returns
        -------
        Lower and upper limits, a DataFrame of cells × genes each. Of real-valued data, of the expected values.

        Raises
        ------
        ValueError
            If the training cells are not there, or batches to transform to are several.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> lower, upper = model.get_expression_interval(gene_list=["gene_0", "gene_1"], level=0.95)
        >>> rates = model.get_normalized_expression(gene_list=["gene_0", "gene_1"])
        >>> bool(((lower < rates) & (rates < upper)).all(axis=None))
        True
        """
        quantile = norm.ppf(0.5 + in_range("level", level, 0.01, 0.999) / 2)
        uncertain = as_bool("parameter_uncertainty", parameter_uncertainty)
        rates, names = self._rates_of(adata, indices, transform_batch, gene_list, batch_size, library_size)
        genes = self._uncertainty_of_genes() if uncertain else GeneUncertainty.none(parameters_of(self.module)[0])
        (design, _), *others = rates.designs
        if others:
            msg = f"transform_batch={transform_batch!r}, but an interval is that of one batch."
            raise ValueError(msg)
        limits = np.empty((2, *rates.shape), np.float32)
        for cells, posterior in rates.blocks():
            mean, variance = genes.log_rate_moments(
                design[cells], posterior.mean, posterior.packed_covariance, rates.genes
            )
            deviation = quantile * np.sqrt(variance)
            for limit, sign in zip(limits, (-1, 1), strict=True):
                limit[cells] = rates.from_log_rates(cells, mean + sign * deviation)
        columns = self.genes if gene_list is None else list(gene_list)
        lower, upper = (pd.DataFrame(limit, index=names, columns=columns) for limit in limits)
        return lower, upper

    def _uncertainty_of_genes(self) -> GeneUncertainty:
        """Covariances of coefficients and loadings, from the training cells, once for each training."""
        self._require_trained()
        kept = self._gene_uncertainty
        if kept is not None and kept[0] is self.module:
            return kept[1]
        if self.query_ is not None or self.adata is None or not self._is_training_data(self.adata):
            where = (
                "but this model's genes come from a reference: ask that one"
                if self.query_ is not None
                else "and these are not there, or have changed: load the model with them, load(path, adata)"
            )
            msg = (
                f"How uncertain parameters are follows from the cells that they were trained on, {where}. "
                "With parameter_uncertainty=False they are taken as known."
            )
            raise ValueError(msg)
        data = self._read(self.adata).data
        genes, family, likelihood = parameters_of(self.module)
        posterior = self.module.posterior()
        with threads(scvi.settings.num_threads) as pool:
            problem = make_cell_problem(data, family, likelihood, pool)
            states = CellStates.known(posterior.mean, posterior.packed_covariance)
            codes = np.zeros(data.n_genes, np.intp) if data.groups is None else data.groups
            found = GeneUncertainty.of(problem, genes, states, codes)
        self._gene_uncertainty = (self.module, found)
        return found
