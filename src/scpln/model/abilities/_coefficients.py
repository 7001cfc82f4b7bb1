"""Coefficients of models whose decoder is linear in the design."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from scpln.data import DESIGN_KEY, Design, states

from ._latent import LatentModel

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from scpln.module import LatentModule


class Coefficients(LatentModel):
    """Models whose log-rates are, or may be, linear in the latent state and the design."""

    module: LatentModule

    def get_coefficients(self, modality: str | None = None) -> pd.DataFrame:
        """Coefficients B: change of a gene's log-rate with each column of the design (genes × covariates).

        The intercept is the log-rate at a latent state of 0, for a cell of average (geometric mean) size factor.
        Continuous covariates are in the unit of their column of ``obs``.

        Parameters
        ----------
        modality
            Name of the modality whose genes to return, of a model of several; by default all genes.

        Raises
        ------
        ValueError
            If the decoder is not linear, as that of an autoencoder with hidden layers, or there is no such modality.
        """
        coefficients = self._linear_map()[0].detach().cpu().double().numpy()
        design = Design.from_state(states(self.registry)[DESIGN_KEY])
        return self._of_genes(design.in_units(coefficients), self.covariates, modality)

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
