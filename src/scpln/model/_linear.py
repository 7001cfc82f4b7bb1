"""Parameters of models whose decoder is linear: loadings, coefficients, and the covariance that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ._base import ScplnModel
from ._data import gene_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpln.module import PLNPCAModule


class LinearDecoder(ScplnModel):
    """Models whose log-rates are linear in the latent state."""

    module: PLNPCAModule
    n_latent: int

    def get_loadings(self) -> pd.DataFrame:
        """Loadings C: change of a gene's log-rate with each latent dimension (genes × q)."""
        self._require_trained()
        return pd.DataFrame(self.module.loadings.cpu().numpy(), index=self.genes, columns=self._dimensions())

    def get_coefficients(self) -> pd.DataFrame:
        """Coefficients B: change of a gene's log-rate with each column of the design (genes × covariates).

        The intercept is the log-rate at a latent state of 0, for a cell of average (geometric mean) size factor.
        """
        self._require_trained()
        return pd.DataFrame(self.module.coefficients.cpu().numpy(), index=self.genes, columns=self.covariates)

    def get_gene_parameters(self) -> pd.DataFrame:
        """Parameters of the likelihood (genes × parameters), with no columns if it has none, as Poisson.

        ``inverse_dispersion`` θ of the negative binomial (variance μ + μ²/θ), ``zero_inflation`` π, the probability of
        an excess zero, and ``sd``, the standard deviation of real-valued data.
        """
        self._require_trained()
        parameters = self.module.generative.likelihood.gene_parameters()
        return pd.DataFrame({name: value.cpu().numpy() for name, value in parameters.items()}, index=self.genes)

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

    def get_variance_explained(self) -> pd.Series:
        """Share of each latent dimension in the total variance of log-rates: ‖C_k‖² / tr(C Cᵀ), which adds up to 1."""
        loadings = self.get_loadings()
        variance = loadings.pow(2).sum()
        total = variance.sum()
        return (variance / total if total > 0 else variance).rename("variance_explained")

    def _dimensions(self) -> list[str]:
        return [f"Z_{k}" for k in range(self.n_latent)]
