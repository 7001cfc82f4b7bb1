"""Standard errors, intervals and tests of coefficients."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from scpln.data import DESIGN_KEY, Coding, Design, gene_positions, get_column, states
from scpln.inference.comparison import benjamini_hochberg
from scpln.inference.uncertainty import ErrorMethod, Sandwich
from scpln.model.abilities._coefficients import Coefficients
from scpln.utils import as_bool, in_range, one_of

from ._contrasts import Contrasts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from scpln.core import CountData
    from scpln.inference.uncertainty import CoefficientErrors, FactorSandwich


class StandardErrors(Coefficients):
    """Models the errors of whose coefficients follow from the cells that they were trained on."""

    #: Of the module that it belongs to.
    _kept_sandwich: tuple[Any, Sandwich | FactorSandwich] | None = None

    @abstractmethod
    def _new_sandwich(self, data: CountData) -> Sandwich | FactorSandwich:
        """From the training cells, or an error where it is not defined."""

    def get_coefficients(
        self,
        modality: str | None = None,
        *,
        with_se: bool = False,
        interval: float | None = None,
        method: ErrorMethod = "hc3",
        donor_key: str | None = None,
    ) -> pd.DataFrame:
        r"""Coefficients B: change of a gene's log-rate with each column of the design (genes × covariates).

        The intercept is the log-rate at a latent state of 0, for a cell of average (geometric mean) size factor.
        Continuous covariates are in the unit of their column of ``obs``.

        Standard errors are those of the sandwich of profiled scores, in which the posteriors are at their best for all parameters and the
        covariance between genes is estimated as well,

        .. math:: \mathrm{Cov}(\hat\theta) = H^{-1} \Bigl[\sum_i s_i s_i^T\Bigr] H^{-1}, \quad s_i = \nabla_\theta \max_q \text{ELBO}_i,

        with H the curvature, minus the second derivative of the sum of bounds. They do not take the model to be true, but cells, or
        donors, to be independent.

        Parameters
        ----------
        modality
            Name of the modality whose genes to return, of a model of several; by default all genes.
        with_se
            Whether each covariate has two columns, ``coefficient`` and ``se``, its standard error.
        interval
            Probability of an interval, such as 0.95, whose limits are two more columns, ``lower`` and ``upper``. They are quantiles of
            Student's t distribution with n − d degrees of freedom, or as many as there are donors, less the coefficients (the intercept
            among them) of what does not vary within donors.
        method
            ``"hc3"``, in which each score counts as leaving its cell (or donor) out has it, which samples of less than some hundred
            cells need; ``"sandwich"``, without that; or ``"model"``, :math:`H^{-1}`, for independent cells of a model that is true.
        donor_key
            Column of ``obs`` with each cell's donor, or another group whose cells are not independent: scores are added up
            within, with the factor G / (G − 1) for G donors, or (G − 1) / G under ``"hc3"``. Covariates that donors differ in
            need it.

        Returns
        -------
        Genes × covariates; with errors, columns have two levels, covariates and ``coefficient``, ``se``, ``lower``, ``upper``.

        Raises
        ------
        ValueError
            If there is no such modality or column, the training cells are not there, or the posteriors are not Gaussians at their
            optimum, of which alone errors are known: take `bootstrap`.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=12, n_latent=2, n_batches=2)
        >>> scpln.model.setup_anndata(adata, batch_key="batch")
        >>> model = scpln.model.PLN(adata)
        >>> model.train(progress=False)
        >>> table = model.get_coefficients(with_se=True, interval=0.95)
        >>> table["batch[T.1]"].columns.to_list()
        ['coefficient', 'se', 'lower', 'upper']
        """
        table = super().get_coefficients(modality)
        with_se = as_bool("with_se", with_se)
        one_of("method", method, get_args(ErrorMethod))
        level = None if interval is None else in_range("interval", interval, 0.01, 0.9999)
        if not with_se and level is None:
            if donor_key is not None:
                msg = f"donor_key={donor_key!r} is for errors of coefficients, and none are asked for. Pass with_se=True, or leave it out."
                raise ValueError(msg)
            return table
        errors = self._coefficient_errors(method, donor_key)
        se = self._of_genes(errors.standard_errors, self.covariates, modality)
        parts = {"coefficient": table, "se": se}
        if level is not None:
            half = errors.quantile(level) * se
            parts |= {"lower": table - half, "upper": table + half}
        whole = pd.concat(parts, axis=1).swaplevel(axis=1)
        return whole[[(name, part) for name in self.covariates for part in parts]]

    def get_coefficient_covariance(
        self, genes: Sequence[str], *, method: ErrorMethod = "hc3", donor_key: str | None = None
    ) -> pd.DataFrame:
        """Covariance of the estimates of some genes' coefficients, for contrasts across genes.

        Parameters
        ----------
        genes
            Names of genes.
        method, donor_key
            As in `get_coefficients`.

        Returns
        -------
        (Gene, covariate) × (gene, covariate).

        Raises
        ------
        ValueError
            As in `get_coefficients`; or there are too many genes for a matrix of all coefficients.
        """
        positions = gene_positions(genes, self.genes, "genes")
        errors = self._coefficient_errors(method, donor_key, joint=True)
        d = len(self.covariates)
        chosen = (np.asarray(positions)[:, None] * d + np.arange(d)).ravel()
        assert errors.joint is not None
        index = pd.MultiIndex.from_product([list(genes), self.covariates], names=["gene", "covariate"])
        return pd.DataFrame(errors.joint[np.ix_(chosen, chosen)], index=index, columns=index)

    def get_covariance_errors(
        self, genes: Sequence[str] | None = None, *, correlation: bool = False, donor_key: str | None = None
    ) -> pd.DataFrame:
        r"""Standard errors of the entries of Σ, or of the correlations (genes × genes), by the sandwich and the delta method.

        Those of few genes: with a full Σ up to 40, and of PLN-PCA, whose :math:`\Sigma = C C^T`, as many as a matrix of all parameters
        allows. For others take `bootstrap`.

        Parameters
        ----------
        genes
            Names of genes, in the order to return; by default all.
        correlation
            Whether to return those of correlations.
        donor_key
            As in `get_coefficients`.

        Raises
        ------
        ValueError
            As in `get_coefficients`; or if only some functions of Σ are parameters of the sandwich.
        """
        sandwich = self._sandwich()
        if not isinstance(sandwich, Sandwich) or not sandwich.has_covariance:
            msg = (
                f"Errors of Σ take a matrix of all parameters, and {len(self.genes):,} genes have too many. Take them from "
                "model.bootstrap(...).get_covariance_errors(genes)."
            )
            raise ValueError(msg)
        found = sandwich.covariance_errors(self._clusters(donor_key))[int(as_bool("correlation", correlation))]
        positions = gene_positions(genes, self.genes, "genes")
        table = pd.DataFrame(found, index=self.genes, columns=self.genes)
        return table if positions is None else table.iloc[positions, positions]

    def test_covariates(
        self,
        contrast: str | dict[str, float] | ArrayLike | Sequence[Any],
        *,
        method: ErrorMethod = "hc3",
        donor_key: str | None = None,
        modality: str | None = None,
        reference: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        r"""Wald tests of coefficients, gene by gene.

        One contrast has the statistic :math:`t_j = l^T B_j / \mathrm{se}(l^T B_j)`; of several at once,
        :math:`F_j = \frac1r (L B_j)^T (L S_j L^T)^{-1} L B_j`.

        Parameters
        ----------
        contrast
            Name of a coefficient, such as ``"condition[T.treated]"``; name of a categorical covariate, all of whose levels are then tested at
            once; weights of coefficients, ``{"condition[T.a]": 1, "condition[T.b]": -1}``, or a vector with one for each; or a
            list of these, to be tested at once.
        method, donor_key
            As in `get_coefficients`. A covariate that donors differ in, such as a treatment, has to have `donor_key`.
        modality
            Name of the modality whose genes to return.
        reference
            Gene (or cell type) that is known not to change, or several, whose mean change is taken off all others', and its error with it: of counts that add up to
            their size factor, as cells of a sample do, one that becomes rarer makes all others more frequent. ``list(adata.var_names)`` for all.

        Returns
        -------
        Table with a row for each gene, those with the largest scores first: ``names``; ``scores``, the t or F statistics;
        ``logfoldchanges``, to the base 2, and ``logfoldchanges_se``, their standard errors; ``pvals`` and ``pvals_adj`` (Benjamini and
        Hochberg). Several contrasts have a ``logfoldchanges[name]`` each, and their errors. Of real values, these are differences in
        the data's unit.

        Raises
        ------
        ValueError
            If there is no such coefficient or column; and as in `get_coefficients`.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=12, n_latent=2, n_batches=2)
        >>> scpln.model.setup_anndata(adata, batch_key="batch")
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> model.test_covariates("batch").columns.to_list()
        ['names', 'scores', 'logfoldchanges', 'logfoldchanges_se', 'pvals', 'pvals_adj']
        """
        design = Design.from_state(states(self.registry)[DESIGN_KEY])
        contrasts = Contrasts.of(contrast, self.covariates, design)
        coefficients = super().get_coefficients().to_numpy()
        positions = gene_positions(reference, self.genes, "reference")
        errors = self._coefficient_errors(method, donor_key, joint=positions is not None)
        if positions is not None:
            weights = np.bincount(positions, minlength=len(self.genes)) / len(positions)
            errors, coefficients = errors.relative_to(weights), coefficients - weights @ coefficients
        tests = errors.wald(coefficients, contrasts.matrix)
        genes = self._genes_of(modality)
        unit = np.log(2) if self.is_count_data else 1.0
        several = len(contrasts.names) > 1
        columns: dict[str, Any] = {"names": np.asarray(self.genes, dtype=object), "scores": tests.scores}
        for number, name in enumerate(contrasts.names):
            of = f"[{name}]" if several else ""
            columns[f"logfoldchanges{of}"] = tests.effects[:, number] / unit
            columns[f"logfoldchanges{of}_se" if not several else f"logfoldchanges_se{of}"] = (
                tests.errors[:, number] / unit
            )
        table = pd.DataFrame({**columns, "pvals": tests.p_values}).iloc[np.arange(len(self.genes))[genes]]
        table["pvals_adj"] = benjamini_hochberg(table["pvals"].to_numpy(), tests.tested[genes])
        return table.sort_values("scores", ascending=False, kind="stable", ignore_index=True)

    def _coefficient_errors(
        self, method: ErrorMethod, donor_key: str | None, *, joint: bool = False
    ) -> CoefficientErrors:
        """In the units of the columns of obs."""
        one_of("method", method, get_args(ErrorMethod))
        clusters, sandwich = self._clusters(donor_key), self._sandwich()
        if clusters is not None and method == "model":
            msg = "method='model' takes cells to be independent, which donor_key does not. Leave out one of them."
            raise ValueError(msg)
        if not joint:
            return sandwich.coefficients(method, clusters).transformed(self._units())
        if not isinstance(sandwich, Sandwich):
            msg = (
                f"A covariance across genes takes a matrix of all coefficients, and {len(self.genes):,} genes have too many. Make a "
                "model of fewer genes, or take the differences from model.bootstrap(...).coefficients."
            )
            raise ValueError(msg)
        return sandwich.coefficients(method, clusters, joint=True).transformed(self._units())

    def _units(self) -> NDArray[np.float64]:
        """A (d, d): coefficients in units of obs are B Aᵀ."""
        design = Design.from_state(states(self.registry)[DESIGN_KEY])
        return design.in_units(np.eye(len(self.covariates))).T

    def _clusters(self, donor_key: str | None) -> NDArray[np.intp] | None:
        """Code of each training cell's donor."""
        if donor_key is None:
            return None
        self._check_trained_here()
        coding = Coding.of(get_column(self.adata.obs, donor_key, "donor_key"))
        missing = int((coding.codes < 0).sum())
        if missing:
            msg = f"{missing:,} cells have no donor in adata.obs[{donor_key!r}]. Give them one each, or leave them out of the model."
            raise ValueError(msg)
        present, codes = np.unique(coding.codes, return_inverse=True)
        if len(present) < 2:
            msg = f"donor_key={donor_key!r} has one donor only, of which nothing is known beyond it. Leave it out."
            raise ValueError(msg)
        return codes

    def _check_trained_here(self) -> None:
        """Raise an error unless the cells are those that the parameters were estimated on."""
        self._require_trained()
        if self.query_ is None and self.adata is not None and self._is_training_data(self.adata):
            return
        where = (
            "but this model's genes come from a reference: ask that one"
            if self.query_ is not None
            else "and these are not there, or have changed: load the model with them, load(path, adata)"
        )
        msg = f"Errors of parameters follow from the cells that they were estimated on, {where}."
        raise ValueError(msg)

    def _sandwich(self) -> Sandwich | FactorSandwich:
        """Once for each training."""
        self._check_trained_here()
        kept = self._kept_sandwich
        if kept is None or kept[0] is not self.module:
            kept = self._kept_sandwich = (self.module, self._new_sandwich(self._read(self.adata).data))
        return kept[1]
