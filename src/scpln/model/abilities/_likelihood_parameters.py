"""Parameters of the likelihood by gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scpln.model.base import ScplnModel

if TYPE_CHECKING:
    from scpln.module import LatentModule


class LikelihoodParameters(ScplnModel):
    """Models whose likelihood may have parameters of each gene, besides the rate."""

    module: LatentModule

    def get_gene_parameters(self, modality: str | None = None) -> pd.DataFrame:
        """Parameters of the likelihood (genes × parameters), with no columns if it has none, as Poisson.

        ``inverse_dispersion`` θ of the negative binomial (variance μ + μ²/θ), ``zero_inflation`` π, the probability of
        an excess zero, ``log_rate_sd``, the standard deviation of log-rates beside the latent state (Poisson log-normal), and
        ``sd``, that of real-valued data. Where they vary by cell or batch, those
        that the decoder adds to. NaN for genes of a modality whose likelihood does not have the parameter.

        Parameters
        ----------
        modality
            Name of the modality whose genes, and their parameters, to return, of a model of several; by default all.

        Raises
        ------
        ValueError
            If the model has no such modality.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2, likelihood="nb")
        >>> model.train(max_epochs=5, progress=False)
        >>> model.get_gene_parameters().columns.to_list()
        ['inverse_dispersion']
        """
        self._require_trained()
        genes = self._genes_of(modality)
        parameters = self.module.generative.likelihood.gene_parameters()
        table = pd.DataFrame({name: value.cpu().numpy() for name, value in parameters.items()}, index=self.genes)
        return table if modality is None else table.iloc[genes].dropna(axis=1, how="all")
