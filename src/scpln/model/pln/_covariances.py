"""The covariance of log-rates in gene space, as tables of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.linalg import cho_solve

from scpln.data import gene_positions
from scpln.model.abilities import Coefficients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scpln.module import PLNModule


class Covariances(Coefficients):
    """Models with a covariance Σ between genes."""

    module: PLNModule

    def get_covariance(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Covariance Σ of log-rates between genes, beyond what the design explains (genes × genes).

        Parameters
        ----------
        genes
            Names of genes, in the order to return; by default all.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        scale = self._scale()
        return self._table(scale @ scale.T, genes)

    def get_correlation(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Correlation of log-rates between genes, :math:`\Sigma_{jk} / \sqrt{\Sigma_{jj} \Sigma_{kk}}` (genes × genes).

        Parameters
        ----------
        genes
            As in `get_covariance`.

        Raises
        ------
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLN(adata)
        >>> model.train(progress=False)
        >>> correlation = model.get_correlation(["gene_0", "gene_5"])
        >>> correlation.shape, float(correlation.iloc[0, 0].round(6))
        ((2, 2), 1.0)
        """
        scale = self._scale()
        scale = scale / np.sqrt(np.square(scale).sum(1, keepdims=True))
        return self._table(scale @ scale.T, genes)

    def get_precision(self, genes: Sequence[str] | None = None) -> pd.DataFrame:
        r"""Precision :math:`\Omega = \Sigma^{-1}` of all genes, of which some may be chosen (genes × genes).

        A zero between two genes says that their log-rates are independent given those of all others. Of a network (`penalty`) most are zero, exactly.

        Parameters
        ----------
        genes
            As in `get_covariance`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        scale = self._scale()
        if self._is_network:
            return self._table(self.module.parts.cpu().numpy(), genes)
        return self._table(cho_solve((scale, True), np.eye(len(scale))), genes)

    @property
    def _is_network(self) -> bool:
        """Whether the precision is sparse."""
        return False

    def _scale(self) -> NDArray[np.float64]:
        """Cholesky factor of Σ."""
        self._require_trained()
        return self.module.scale.detach().cpu().numpy()

    def _table(self, values: NDArray[np.float64], genes: Sequence[str] | None) -> pd.DataFrame:
        positions = gene_positions(genes, self.genes, "genes")
        table = pd.DataFrame(values, index=self.genes, columns=self.genes)
        return table if positions is None else table.iloc[positions, positions]
