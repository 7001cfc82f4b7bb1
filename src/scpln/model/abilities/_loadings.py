"""Parameters of models whose decoder is linear: loadings, coefficients, and the covariance that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scpln.data import gene_positions
from scpln.model.base import ScplnModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from scpln.module import PLNPCAModule


class Loadings(ScplnModel):
    """Models whose log-rates are linear in the latent state."""

    module: PLNPCAModule
    n_latent: int

    def get_loadings(self, modality: str | None = None) -> pd.DataFrame:
        """Loadings C: change of a gene's log-rate with each latent dimension (genes × q).

        Parameters
        ----------
        modality
            Name of the modality whose genes to return, of a model of several; by default all genes.
        """
        self._require_trained()
        return self._of_genes(self.module.loadings, self._dimensions(), modality)

    def get_coefficients(self, modality: str | None = None) -> pd.DataFrame:
        """Coefficients B: change of a gene's log-rate with each column of the design (genes × covariates).

        The intercept is the log-rate at a latent state of 0, for a cell of average (geometric mean) size factor.

        Parameters
        ----------
        modality
            As in `get_loadings`.
        """
        self._require_trained()
        return self._of_genes(self.module.coefficients, self.covariates, modality)

    def get_gene_parameters(self, modality: str | None = None) -> pd.DataFrame:
        """Parameters of the likelihood (genes × parameters), with no columns if it has none, as Poisson.

        ``inverse_dispersion`` θ of the negative binomial (variance μ + μ²/θ), ``zero_inflation`` π, the probability of
        an excess zero, and ``sd``, the standard deviation of real-valued data. NaN for genes of a modality whose
        likelihood does not have the parameter.

        Parameters
        ----------
        modality
            Name of the modality whose genes, and their parameters, to return; by default all.
        """
        self._require_trained()
        parameters = self.module.generative.likelihood.gene_parameters()
        table = pd.DataFrame({name: value.cpu().numpy() for name, value in parameters.items()}, index=self.genes)
        return table if modality is None else table.iloc[self._genes_of(modality)].dropna(axis=1, how="all")

    def get_covariance(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        """Covariance of log-rates between genes, Σ = C Cᵀ (genes × genes).

        Parameters
        ----------
        genes
            Names of genes; by default all, which takes 8 p² bytes (0.8 GB for 10,000 genes).
        """
        loadings = self.get_loadings()
        positions = gene_positions(genes, self.genes)
        chosen = loadings if positions is None else loadings.iloc[positions]
        return pd.DataFrame(chosen.to_numpy() @ chosen.to_numpy().T, index=chosen.index, columns=chosen.index)

    def get_variance_explained(self, modality: str | None = None) -> pd.Series:
        """Share of each latent dimension in the total variance of log-rates: ‖C_k‖² / tr(C Cᵀ), which adds up to 1.

        Parameters
        ----------
        modality
            Name of a modality, for the shares in the variance of its genes, of a model of several; by default all genes.
        """
        loadings = self.get_loadings(modality)
        variance = loadings.pow(2).sum()
        total = variance.sum()
        return (variance / total if total > 0 else variance).rename("variance_explained")

    def _of_genes(self, values: torch.Tensor, columns: list[str], modality: str | None) -> pd.DataFrame:
        genes = self._genes_of(modality)
        return pd.DataFrame(values.cpu().numpy()[genes], index=self.genes[genes], columns=columns)

    def _dimensions(self) -> list[str]:
        return [f"Z_{k}" for k in range(self.n_latent)]
