"""Parameters of models whose decoder is linear: loadings, coefficients, and the covariance that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from scpln.data import DESIGN_KEY, Design, gene_positions, states
from scpln.model.base import ScplnModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from scpln.module import LatentModule


class Loadings(ScplnModel):
    """Models whose log-rates are, or may be, linear in the latent state."""

    module: LatentModule

    def get_loadings(self, modality: str | None = None) -> pd.DataFrame:
        """Loadings C: change of a gene's log-rate with each latent dimension (genes × q).

        They are in the coordinates of the latent states. Those of PLN-PCA are identified: orthogonal, in the order of
        the variance that they explain, with the largest entry of each positive. Those of an autoencoder with a linear
        decoder are in no particular rotation, as its latent states are: they span the same space, and single
        dimensions mean nothing.

        Parameters
        ----------
        modality
            Name of the modality whose genes to return, of a model of several; by default all genes.

        Raises
        ------
        ValueError
            If the decoder is not linear, as that of an autoencoder with hidden layers, or there is no such modality.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.CountVAE(adata, n_latent=2, n_layers=0, n_hidden=8)
        >>> model.train(max_epochs=2, progress=False)
        >>> model.get_loadings().shape
        (30, 2)
        """
        loadings = self._linear_map()[1].detach().cpu().numpy()
        return self._of_genes(loadings, [f"Z_{k}" for k in range(loadings.shape[1])], modality)

    def get_coefficients(self, modality: str | None = None) -> pd.DataFrame:
        """Coefficients B: change of a gene's log-rate with each column of the design (genes × covariates).

        The intercept is the log-rate at a latent state of 0, for a cell of average (geometric mean) size factor.
        Continuous covariates are in the unit of their column of ``obs``.

        Parameters
        ----------
        modality
            As in `get_loadings`.

        Raises
        ------
        ValueError
            As in `get_loadings`.
        """
        coefficients = self._linear_map()[0].detach().cpu().double().numpy()
        design = Design.from_state(states(self.registry)[DESIGN_KEY])
        return self._of_genes(design.in_units(coefficients), self.covariates, modality)

    def get_covariance(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        """Covariance of log-rates between genes, Σ = C Cov(z) Cᵀ (genes × genes), which is C Cᵀ where z is N(0, I).

        It does not depend on the rotation of the latent states.

        Parameters
        ----------
        genes
            Names of genes; by default all, which takes 8 p² bytes (0.8 GB for 10,000 genes).

        Raises
        ------
        ValueError
            As in `get_loadings`.
        """
        loadings = self.get_loadings()
        positions = gene_positions(genes, self.genes, "genes")
        chosen = loadings if positions is None else loadings.iloc[positions]
        values, covariance = chosen.to_numpy(), self.module.generative.prior.total_covariance().numpy()
        return pd.DataFrame(values @ covariance @ values.T, index=chosen.index, columns=chosen.index)

    def get_variance_explained(self, modality: str | None = None) -> pd.Series:
        """Share of each latent dimension in the variance of log-rates, ‖C_k‖² Var(z_k), which adds up to 1.

        Var(z_k) is 1 where z is N(0, I). Dimensions of a mixture may be correlated, which is left out here.

        Parameters
        ----------
        modality
            Name of a modality, for the shares in the variance of its genes, of a model of several; by default all genes.

        Raises
        ------
        ValueError
            As in `get_loadings`.
        """
        loadings = self.get_loadings(modality)
        variance = loadings.pow(2).sum() * self.module.generative.prior.total_covariance().diagonal().numpy()
        total = variance.sum()
        return (variance / total if total > 0 else variance).rename("variance_explained")

    def _linear_map(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients and loadings of the decoder, which has to be linear."""
        self._require_trained()
        found = self.module.generative.decoder.linear_map()
        if found is None:
            msg = (
                f"This {type(self).__name__} has no loadings: {self._nonlinearity()}, so that log-rates are not linear in the "
                "latent state. Make it with n_layers=0 and scale_activation='exp', or take a PLNPCA."
            )
            raise ValueError(msg)
        return found

    def _nonlinearity(self) -> str:
        """What makes the decoder not linear."""
        return f"its decoder is a {type(self.module.generative.decoder).__name__}"

    def _of_genes(self, values: NDArray[Any], columns: list[str], modality: str | None) -> pd.DataFrame:
        genes = self._genes_of(modality)
        return pd.DataFrame(values[genes], index=self.genes[genes], columns=columns)
