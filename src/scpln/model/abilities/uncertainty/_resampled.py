"""Estimates from resampled cells, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scpln.data import gene_positions
from scpln.utils import as_bool, in_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scpln.inference.uncertainty import Replicates


class Resampled:
    """Coefficients and covariances that were estimated again from samples of the cells: what `bootstrap` and `jackknife` return.

    Examples
    --------
    >>> import scpln
    >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=8, n_latent=2)
    >>> scpln.model.setup_anndata(adata)
    >>> model = scpln.model.PLN(adata)
    >>> model.train(progress=False)
    >>> samples = model.bootstrap(20, progress=False)
    >>> samples
    bootstrap of 20 samples (100 cells, 8 genes)
    >>> samples.get_coefficients()["(Intercept)"].columns.to_list()
    ['coefficient', 'se', 'bias', 'lower', 'upper']
    """

    def __init__(self, replicates: Replicates, genes: list[str], covariates: list[str], unit: str) -> None:
        self._replicates, self._genes, self._covariates, self._unit = replicates, genes, covariates, unit

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """B of each sample, (samples, genes, covariates), in the units of `get_coefficients`."""
        return self._replicates.coefficients

    @property
    def n_samples(self) -> int:
        """Samples that there are estimates from."""
        return len(self._replicates.coefficients)

    def get_coefficients(self, interval: float = 0.95, *, percentile: bool | None = None) -> pd.DataFrame:
        """Coefficients with standard errors, biases and intervals (genes × covariates and what is said of them).

        Parameters
        ----------
        interval
            Probability of the intervals.
        percentile
            Whether limits are percentiles of the samples, the default of a bootstrap, or the estimate and quantiles of Student's t
            distribution times the standard error, that of a jackknife.

        Raises
        ------
        ValueError
            If percentiles are asked for of a jackknife.
        """
        found, values, estimate = self._replicates, self._replicates.coefficients, self._replicates.estimate[0]
        level = in_range("interval", interval, 0.01, 0.9999)
        lower, upper = found.limits(values, estimate, level, percentile=self._by_percentile(percentile))
        parts = {
            "coefficient": estimate,
            "se": found.standard_errors(values),
            "bias": found.bias(values, estimate),
            "lower": lower,
            "upper": upper,
        }
        tables = {name: pd.DataFrame(part, self._genes, self._covariates) for name, part in parts.items()}
        whole = pd.concat(tables, axis=1).swaplevel(axis=1)
        return whole[[(name, part) for name in self._covariates for part in parts]]

    def get_covariance_errors(self, genes: Sequence[str] | None = None, *, correlation: bool = False) -> pd.DataFrame:
        """Standard errors of the entries of Σ, or of the correlations (genes × genes).

        Parameters
        ----------
        genes
            Names of genes, in the order to return; by default all.
        correlation
            Whether to return those of correlations.
        """
        values, _, names = self._covariances(genes, correlation)
        return pd.DataFrame(self._replicates.standard_errors(values), names, names)

    def get_covariance_interval(
        self,
        genes: Sequence[str] | None = None,
        interval: float = 0.95,
        *,
        correlation: bool = False,
        percentile: bool | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Lower and upper limits of the entries of Σ, or of the correlations (genes × genes each).

        Parameters
        ----------
        genes, correlation
            As in `get_covariance_errors`.
        interval, percentile
            As in `get_coefficients`.
        """
        values, estimate, names = self._covariances(genes, correlation)
        level = in_range("interval", interval, 0.01, 0.9999)
        limits = self._replicates.limits(values, estimate, level, percentile=self._by_percentile(percentile))
        lower, upper = (pd.DataFrame(limit, names, names) for limit in limits)
        return lower, upper

    def _covariances(
        self, genes: Sequence[str] | None, correlation: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
        positions = gene_positions(genes, self._genes, "genes")
        chosen = np.arange(len(self._genes)) if positions is None else np.asarray(positions)
        values, estimate = self._replicates.covariances(chosen, correlation=as_bool("correlation", correlation))
        return values, estimate, [self._genes[position] for position in chosen]

    def _by_percentile(self, percentile: bool | None) -> bool:
        if percentile is None:
            return self._replicates.kind == "bootstrap"
        if as_bool("percentile", percentile) and self._replicates.kind == "jackknife":
            msg = "percentile=True is for a bootstrap: what leaves out single units is spread far less than estimates are. Leave it out."
            raise ValueError(msg)
        return percentile

    def __repr__(self) -> str:
        found = self._replicates
        return (
            f"{found.kind} of {self.n_samples:,} samples ({found.n_units:,} {self._unit}s, {len(self._genes):,} genes)"
        )
