"""Proportions at the nodes of a tree, and parameters by node and level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scpln.data import DESIGN_KEY, Design, states
from scpln.model.abilities import Predictive
from scpln.utils import MOST_DRAWS, as_bool, one_of, positive_integer, resolve_seed

from ._states import chain_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import TreeContrasts
    from scpln.module import PLNTreeModule


class TreeTables(Predictive):
    """Models of counts on a tree."""

    module: PLNTreeModule
    contrasts: TreeContrasts

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes below the root, level by level."""
        return list(self.contrasts.tree.names[1:])

    def get_proportions(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        clr: bool = False,
        of: Literal["parent", "all"] = "parent",
        n_samples: int = 100,
        seed: int | None = None,
    ) -> pd.DataFrame:
        r"""Proportions of the nodes of the tree in each sample, freed from the noise of counting.

        Parameters
        ----------
        adata, indices
            As in `get_posterior`.
        clr
            Whether to return centred log-ratios, :math:`\log \pi_k - \frac1K \sum_j \log \pi_j` over the K parts of each whole, at the posterior mean of the log-rates: numbers
            for regressions and distances, without zeros. Otherwise posterior means of proportions.
        of
            ``"parent"``, in what has the same parent: they add up to 1 in each group of siblings. Or ``"all"``, leaves in the sample, to 1 over all leaves.
        n_samples
            Draws from the posterior of each sample, of which proportions are means. Log-ratios need none.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Samples × nodes below the root, or × leaves.

        Raises
        ------
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=50, n_vars=4, n_latent=1)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNTree(adata, "((gene_0,gene_1)a,(gene_2,gene_3)b)root;")
        >>> model.train(progress=False)
        >>> shares = model.get_proportions()
        >>> shares.columns.to_list(), bool(abs(shares["gene_0"] + shares["gene_1"] - 1).max() < 1e-9)
        (['a', 'b', 'gene_0', 'gene_1', 'gene_2', 'gene_3'], True)
        """
        clr = as_bool("clr", clr)
        one_of("of", of, ("parent", "all"))
        n_samples, seed = positive_integer("n_samples", n_samples, most=MOST_DRAWS), resolve_seed(seed)
        posterior, _ = self._infer(adata, indices)
        cells = self._read(adata, self._positions(adata, indices))
        design = cells.data.design @ self.module.coefficients.cpu().numpy().T
        if clr:
            values = self._log_ratios(posterior.mean + design, of)
        else:
            draws = posterior.sample(n_samples, seed=seed)
            values = np.mean([np.exp(self._log_proportions(z + design, of)) for z in draws], axis=0)
        return pd.DataFrame(values, index=cells.names, columns=self.nodes if of == "parent" else self.genes)

    def _log_ratios(self, coordinates: NDArray[np.float64], of: str) -> NDArray[np.float64]:
        values = self._log_proportions(coordinates, of)
        if of == "all":
            return np.asarray(values - values.mean(1, keepdims=True))
        values = coordinates @ self.contrasts.matrix.T
        top = self.contrasts.top - 1
        values[:, top] -= values[:, top].mean(1, keepdims=True)
        return np.asarray(values)

    def _log_proportions(self, coordinates: NDArray[np.float64], of: str) -> NDArray[np.float64]:
        """Of nodes, or leaves: logarithms that add up to 1 as they should."""
        values = self.contrasts.log_rates(coordinates) if of == "all" else self.contrasts.log_shares(coordinates)
        whole = np.arange(values.shape[1]) if of == "all" else self.contrasts.top - 1
        values[:, whole] -= np.log(np.exp(values[:, whole]).sum(1, keepdims=True))
        return np.asarray(values)

    def get_coefficients(self) -> pd.DataFrame:
        """Coefficients: change with each column of the design of log-rates of the first level, and of centred log-ratios of other nodes among their siblings.

        The intercept is for a sample of average (geometric mean) size factor. Continuous covariates are in the unit of their column of ``obs``.

        Returns
        -------
        Nodes below the root × covariates.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._require_trained()
        design = Design.from_state(states(self.registry)[DESIGN_KEY])
        values = self.contrasts.matrix @ self.module.coefficients.cpu().double().numpy()
        return pd.DataFrame(design.in_units(values), index=self.nodes, columns=self.covariates)

    def get_level_covariance(self, level: int = 1) -> pd.DataFrame:
        """Covariance of the log-rates or log-ratios of the nodes of a level, beyond what the level before it and the design explain.

        Parameters
        ----------
        level
            From 1, the children of the root; by edges from the root, after nodes with one child were left out.

        Returns
        -------
        Nodes of the level × themselves. Those of siblings, below the first level, add up to 0, as their log-ratios do.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such level.
        """
        matrix, names = self._level(level)
        covariance = chain_of(self.module, self.contrasts).conditional_covariances[level - 1]
        return pd.DataFrame(matrix @ covariance @ matrix.T, index=names, columns=names)

    def get_level_transitions(self, level: int = 2) -> pd.DataFrame:
        """By how much the log-ratios of the nodes of a level change, on average, with log-rates or log-ratios of those of the level before it.

        Parameters
        ----------
        level
            From 2.

        Returns
        -------
        Nodes of the level × nodes of the level before it.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such level, or it is the first.
        """
        matrix, names = self._level(level, first=2)
        before, names_before = self._level(level - 1)
        transition = chain_of(self.module, self.contrasts).transitions[level - 2]
        return pd.DataFrame(matrix @ transition @ before.T, index=names, columns=names_before)

    def _level(self, level: Any, first: int = 1) -> tuple[NDArray[np.float64], list[str]]:
        """Log-ratios of the nodes of a level by its coordinates, and their names."""
        self._require_trained()
        last = len(self.contrasts.level_sizes)
        if isinstance(level, bool) or not isinstance(level, int | np.integer) or not first <= level <= last:
            msg = f"level={level!r}, but the tree has levels 1 to {last}, and this is asked of {first} to {last}."
            raise ValueError(msg)
        at = np.flatnonzero(self.contrasts.tree.depths[1:] == level)
        return self.contrasts.matrix[at][:, self.contrasts.levels[level - 1]], [self.nodes[i] for i in at]

    def _log_rates_by_level(self) -> pd.DataFrame:
        """Log-rate of the ancestor of each leaf on each level, or of itself below it, of a sample of average size factor and state (leaves × levels)."""
        shares = self.contrasts.log_shares(self.module.coefficients[:, 0].cpu().double().numpy())
        depths = self.contrasts.tree.depths[1:]
        levels = range(1, len(self.contrasts.level_sizes) + 1)
        columns = {f"level_{level}": self.contrasts.paths @ np.where(depths <= level, shares, 0) for level in levels}
        return pd.DataFrame(columns, index=self.genes)
