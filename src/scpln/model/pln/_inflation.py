"""The likelihood of counts in gene space, and what its zero inflation depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, get_args

import pandas as pd
from scipy.special import logit

from scpln.data import cell_positions
from scpln.inference.genespace import ZeroInflation, inflation_of_cells
from scpln.model.abilities import Bounds, LikelihoodParameters
from scpln.module import LIKELIHOODS
from scpln.utils import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import CountData
    from scpln.data import Data
    from scpln.module import PLNModule, Posterior
    from scpln.module.likelihoods import InflatedByCell

    from ._inference import LogDensity

#: Likelihoods with zero inflation.
INFLATED = ("zip", "zinb")
#: Families of Σ without variances of single genes that are estimated.
WITHOUT_DIAGONAL = ("fixed", "basis")


def check_counts(likelihood: str | LogDensity, zero_inflation: ZeroInflation | None, covariance: str) -> None:
    """Refuse a likelihood that there is not, and what does not go with it."""
    if callable(likelihood):
        return
    one_of("likelihood", likelihood, [name for name, kind in LIKELIHOODS.items() if kind.is_count])
    if zero_inflation is not None:
        one_of("zero_inflation", zero_inflation, get_args(ZeroInflation))
        if likelihood not in INFLATED:
            msg = f"`zero_inflation` is for 'zip' and 'zinb', and likelihood={likelihood!r} has none. Leave it out."
            raise ValueError(msg)
    if likelihood == "poisson_lognormal" and covariance not in WITHOUT_DIAGONAL:
        msg = (
            f"likelihood={likelihood!r} adds a variance of each gene to the diagonal of Σ, and covariance={covariance!r} has them "
            "already: only their sum can be estimated. Take likelihood='poisson', or covariance='basis'."
        )
        raise ValueError(msg)


class Inflation(LikelihoodParameters, Bounds):
    """Models whose zero inflation may depend on covariates, or on the cell."""

    module: PLNModule
    zero_inflation: ZeroInflation | None

    def get_cell_inflation(
        self, adata: Data | None = None, indices: Sequence[int] | ArrayLike | None = None
    ) -> pd.Series:
        r"""Probability :math:`\pi_i` of an excess zero of each cell (cells).

        Of cells that the model was not trained on, too, it is the one that maximises the bound, with all parameters as they are. A cell without a
        zero has 0, and one without a count 1, within 1e-8.

        Parameters
        ----------
        adata, indices
            As in `get_posterior`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If its zero inflation is not by cell.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=60, n_vars=12, n_latent=2)
        >>> scpln.model.setup_anndata(adata, size_factor_key="size_factor")
        >>> model = scpln.model.PLN(adata, "diagonal", likelihood="zip", zero_inflation="cell")
        >>> model.train(max_epochs=10, progress=False)
        >>> model.get_cell_inflation().shape
        (60,)
        """
        self._require_trained()
        if self.zero_inflation != "cell":
            msg = "zero inflation of this model is not by cell. Take PLN(likelihood='zip', zero_inflation='cell')."
            raise ValueError(msg)
        posterior, _ = self._infer(adata, indices)
        cells = self._read(adata, cell_positions(indices, self._data_or_own(adata).n_obs))
        return pd.Series(self._inflation_of(cells.data, posterior), index=cells.names, name="zero_inflation")

    def _inflation_of(self, data: CountData, posterior: Posterior) -> NDArray[np.float64]:
        """π of each cell, by its counts and posterior."""
        mean = posterior.mean + data.design @ self.module.coefficients.cpu().numpy().T
        likelihood = cast("InflatedByCell", self.module.generative.likelihood)
        return inflation_of_cells(data, likelihood, mean, posterior.variance)

    def _with_own(self, data: CountData, posterior: Posterior) -> CountData:
        if self.zero_inflation != "cell" or not data.n_cells:
            return data
        return replace(data, gate_logits=logit(self._inflation_of(data, posterior)))

    def _inflation_column(self, data: CountData, posterior: Posterior) -> dict[str, Any]:
        """π by cell, for annotated data; nothing unless it is by cell."""
        return {} if self.zero_inflation != "cell" else {"zero_inflation": self._inflation_of(data, posterior)}

    def get_inflation_coefficients(self) -> pd.DataFrame:
        r"""Coefficients a of the zero inflation, :math:`\text{logit}\, \pi_{ij} = x_i \cdot a_j` (genes × covariates).

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If its zero inflation does not depend on covariates.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=6, n_latent=2, n_batches=2)
        >>> scpln.model.setup_anndata(adata, batch_key="batch", size_factor_key="size_factor")
        >>> model = scpln.model.PLN(adata, likelihood="zip", zero_inflation="covariates")
        >>> model.train(max_epochs=10, progress=False)
        >>> model.get_inflation_coefficients().shape
        (6, 2)
        """
        self._require_trained()
        values = self.module.inflation
        if values is None:
            msg = "zero inflation of this model does not depend on covariates. Take PLN(likelihood='zip', zero_inflation='covariates')."
            raise ValueError(msg)
        return pd.DataFrame(values, index=self.genes, columns=self.covariates)
