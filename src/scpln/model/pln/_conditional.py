"""Counts of all genes that are expected given those of some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scpln.data import cell_positions, gene_positions

from ._states import infer, of_genes
from ._training import PLNTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from scpln.data import Data


class ConditionalPrediction(PLNTraining):
    """Models that predict counts of genes from those of others."""

    def predict(
        self,
        adata: Data | None = None,
        given: Sequence[str] | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
    ) -> pd.DataFrame:
        r"""Expected counts of all genes in each cell, from its counts of some genes alone (conditional prediction).

        .. math:: E[y_{ij} \mid y_{i, \text{given}}] \approx e^{o_i + x_i \cdot B_j + m_{ij} + \frac12 V_{ijj}}

        with the posterior N(m, V) of the log-rates of all genes given the counts of those.

        Parameters
        ----------
        adata, indices
            As in `get_posterior`. Size factors by total counts are of all genes: for genes that were not measured, register a column.
        given
            Names of the genes whose counts are looked at; by default all. None of the counts of others is.

        Returns
        -------
        Cells × genes.

        Raises
        ------
        ValueError
            If a gene is not in the model.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=12, n_latent=2)
        >>> scpln.model.setup_anndata(adata, size_factor_key="size_factor")
        >>> model = scpln.model.PLN(adata)
        >>> model.train(progress=False)
        >>> model.predict(given=["gene_0", "gene_1"]).shape
        (200, 12)
        """
        self._require_trained()
        chosen = gene_positions(given, self.genes, "given")
        cells = self._read(adata, cell_positions(indices, self._data_or_own(adata).n_obs))
        data = cells.data if chosen is None else of_genes(cells.data, chosen)
        posterior, _ = infer(self.module, data, cells.names, self._estimator)
        offsets, _ = cells.data.expected_offsets()
        gates = self._with_own(data, posterior).gate_logits
        counts = self.module.expected_counts(cells.data.design, posterior, offsets, gates)
        return pd.DataFrame(counts, index=cells.names, columns=self.genes)
