"""The likelihood of counts in gene space, and what its zero inflation depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pandas as pd

from scpln.inference.genespace import ZeroInflation
from scpln.model.abilities import LikelihoodParameters
from scpln.module import LIKELIHOODS
from scpln.utils import one_of

if TYPE_CHECKING:
    from scpln.module import PLNModule

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


class InflationCoefficients(LikelihoodParameters):
    """Models whose zero inflation may depend on covariates."""

    module: PLNModule

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
