"""Parameters of models whose decoder is linear: loadings, coefficients, and the covariance that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scpln.core import ranges
from scpln.data import DESIGN_KEY, Design, gene_positions, states

from ._coefficients import Coefficients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scpln.module import LatentModule

#: Cells that slopes are computed from, at most, and values in memory at a time.
MOST_CELLS, MOST_VALUES = 20_000, 4_000_000


class Loadings(Coefficients):
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

    def get_expression_loadings(self, modality: str | None = None) -> pd.DataFrame:
        r"""Loadings on the scale of expression: change of a gene's log(1 + rate) with each latent dimension (genes × q).

        The least-squares slopes, over the training cells, of

        .. math:: E_{ij} = \log(1 + e^{b_j + z_i \cdot C_j})

        with b the log-rates at average covariates and size factor, on the posterior means z. This is the scale that PCA is
        usually taken of, so that their squares say what a gene contributes to the variance of expression along a
        dimension. A gene that few cells have hardly changes on it, however large its loading C, which is on the scale of
        log-rates and uncertain where there are few counts. Figures take genes in this order. Of real values,
        slopes are the loadings C.

        Parameters
        ----------
        modality
            As in `get_loadings`.

        Raises
        ------
        ValueError
            As in `get_loadings`; also if the model is an autoencoder that was loaded without its data.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> slopes = model.get_expression_loadings()
        >>> bool((slopes.abs() <= model.get_loadings().abs().max().max()).all(axis=None))
        True
        """
        self._linear_map()
        return self._expression_loadings(self._infer(None, None)[0].mean, modality)

    def _expression_loadings(self, latent: NDArray[np.floating[Any]], modality: str | None = None) -> pd.DataFrame:
        """The same from the latent states of some cells (n × q)."""
        b, c = (value.detach().cpu().double().numpy() for value in self._linear_map())
        slopes = c
        if self.module.generative.likelihood.is_count:
            base = b @ Design.from_state(states(self.registry)[DESIGN_KEY]).average
            slopes = expression_slopes(base, c, np.asarray(latent, np.float64))
        return self._of_genes(slopes, [f"Z_{k}" for k in range(c.shape[1])], modality)

    def _loading_tables(self, latent: NDArray[np.floating[Any]]) -> dict[str, pd.DataFrame]:
        """What `annotate` writes into ``varm``, from the latent states of the training cells, or else of those that there are."""
        return {"loadings": self.get_loadings(), "expression_loadings": self._expression_loadings(latent)}

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


def expression_slopes(
    base: NDArray[np.float64], loadings: NDArray[np.float64], latent: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Least-squares slopes (p, q) of log(1 + rate) on latent states (n, q); 0 in directions in which these do not vary.

    Parameters
    ----------
    base
        Log-rates at a latent state of 0, (p,).
    loadings
        C, (p, q).
    latent
        Latent states of cells; of many, some that are evenly spread are taken.

    Examples
    --------
    >>> states = np.random.default_rng(0).normal(size=(1000, 1))
    >>> expression_slopes(np.array([5.0, -7.0]), np.array([[1.0], [2.0]]), states).round(
    ...     2
    ... )  # a common gene, and a rare one
    array([[0.99],
           [0.01]])
    """
    n = len(latent)
    latent = latent[np.unique(np.linspace(0, n - 1, MOST_CELLS).astype(int))] if n > MOST_CELLS else latent
    centred = latent - latent.mean(0)
    moments = np.zeros((latent.shape[1], len(base)))
    for start, stop in ranges(0, len(latent), max(1, MOST_VALUES // len(base))):
        moments += centred[start:stop].T @ np.logaddexp(0, base + latent[start:stop] @ loadings.T)
    return (np.linalg.pinv(centred.T @ centred, rcond=1e-6, hermitian=True) @ moments).T
