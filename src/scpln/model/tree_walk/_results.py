"""What tree walks say of samples: log-likelihoods, shares, orders and draws."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scpln.data import cell_positions
from scpln.inference.treewalk import GlobalWalk, TreeCounts
from scpln.model.base import Annotation, Evaluated, ScplnModel
from scpln.utils import MOST_DRAWS, as_bool, positive_integer, resolve_seed

from ._tables import centred_log_ratios, positions, proportions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from scpln.core import Tree
    from scpln.data import Data
    from scpln.inference.treewalk import LocalWalk

#: Most numbers that are drawn at a time.
MOST_DRAWN = 10**8


class WalkResults(ScplnModel):
    """Models that split counts along a tree."""

    module: Any
    walk: str
    tree: Tree
    _leaves: NDArray[np.intp]

    def get_elbo(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        return_mean: bool = True,
        *,
        seed: int | None = None,
    ) -> float | NDArray[np.float64]:
        """Log-likelihood of each sample's counts given its total, or a lower bound of it: nats, higher is better.

        With the multinomial coefficients, so that probabilities of all counts of one total add up to 1. The sum over orders is exact, so that there is no gap; of
        global walks it is the mean over 100 of them, given the sample's counts.

        Parameters
        ----------
        adata
            Annotated data with the model's columns, by default its own.
        indices
            Samples: positions or a mask. By default all.
        return_mean
            Whether to return the mean over samples, or the value of each, (n,).
        seed
            Of walks, where ``walk="global"``; by default ``scvi.settings.seed``, or 0.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        data, _ = self._data(adata, indices)
        values = self._walk(resolve_seed(seed)).elbo(data)
        return float(values.mean()) if as_bool("return_mean", return_mean) else values

    def get_iw_bound(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        n_samples: int = 1000,
        return_mean: bool = True,
        *,
        seed: int | None = None,
    ) -> float | NDArray[np.float64]:
        r"""Importance-weighted bound of each sample's log-likelihood given its total, nats; the log-likelihood itself but of global walks.

        .. math:: \log \frac1K \sum_{k=1}^K \frac{p(y_i, z_k)}{q(z_k \mid y_i)}, \quad z_k \sim q(z \mid y_i)

        which on average rises with K from the lower bound (K = 1) to :math:`\log p(y_i \mid N_i)`.

        Parameters
        ----------
        adata, indices, return_mean, seed
            As in `get_elbo`.
        n_samples
            Walks K of each sample.

        References
        ----------
        Y. Burda, R. Grosse and R. Salakhutdinov (2016), Importance weighted autoencoders, ICLR.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        data, _ = self._data(adata, indices)
        n_samples = positive_integer("n_samples", n_samples, most=MOST_DRAWS)
        values = self._walk(resolve_seed(seed)).iw_bound(data, n_samples)
        return float(values.mean()) if as_bool("return_mean", return_mean) else values

    def get_node_log_likelihoods(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Log-likelihood of how each inner node is split, given its count (samples × inner nodes): where a sample is unusual.

        Of global walks, posterior means of the log-probability given the walk, which add up to more than the bound: that has the divergence of walks, too.

        Parameters
        ----------
        adata, indices, seed
            As in `get_elbo`, whose values these add up to where there are no global walks.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        data, names = self._data(adata, indices)
        values = self._walk(resolve_seed(seed)).node_log_likelihoods(data)
        return pd.DataFrame(values, index=names, columns=[self.tree.names[v] for v in self.tree.inner])

    def get_proportions(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        clr: bool = False,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Posterior mean of the share of each node of its sample's total (samples × nodes), which is never 0.

        Parameters
        ----------
        adata, indices, seed
            As in `get_elbo`.
        clr
            Whether to return centred log-ratios within siblings in place of shares: logarithms of posterior mean shares of the parent, less their mean over
            siblings.

        Returns
        -------
        Table with a column for each node, the root first; NaN where a sample lacks the node, as of none of its leaves was observed.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        data, names = self._data(adata, indices)
        shares = self._walk(resolve_seed(seed)).mean_shares(data)
        found = (centred_log_ratios if as_bool("clr", clr) else proportions)(self.tree, shares)
        return pd.DataFrame(found, index=names, columns=list(self.tree.names))

    def get_order_probabilities(
        self,
        node: str | None = None,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
    ) -> pd.DataFrame:
        """Posterior probability of the position in which each child of a node is placed, exactly.

        Parameters
        ----------
        node
            Name of an inner node; by default the root.
        adata, indices
            As in `get_elbo`.

        Returns
        -------
        Table with a row for each sample, and a column for each child and position, from 1.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such node, it is a leaf, or there are no orders.
        """
        place = self._inner(node)
        data, names = self._data(adata, indices)
        if self.walk != "local":
            msg = f"walk={self.walk!r} has no order of children. Fit TreeWalk(adata, walk='local')."
            raise ValueError(msg)
        return positions(self.tree, place, self.module.walk().position_probabilities(data, place), names)

    def get_visit_ranks(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | ArrayLike | None = None,
        *,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Posterior mean of the place of each inner node in a sample's global walk (samples × inner nodes), the root's 1.

        Parameters
        ----------
        adata, indices, seed
            As in `get_elbo`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If walks are not global.
        """
        data, names = self._data(adata, indices)
        walk = self._walk(resolve_seed(seed))
        if not isinstance(walk, GlobalWalk):
            msg = f"walk={self.walk!r} visits no nodes. Fit TreeWalk(adata, walk='global')."
            raise ValueError(msg)
        values = walk.ranks(data)
        return pd.DataFrame(values, index=names, columns=[self.tree.names[v] for v in self.tree.inner])

    def sample(
        self,
        n: int = 1,
        adata: AnnData | None = None,
        *,
        totals: ArrayLike | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Draw the counts of new samples.

        Parameters
        ----------
        n
            How many.
        adata
            Samples from which each takes its total and its covariates, at random; by default the model's own.
        totals
            Total counts, one for all or n of them, in place of those.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Counts, n × columns of the table.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        n, seed = positive_integer("n", n, most=MOST_DRAWN // len(self.tree)), resolve_seed(seed)
        data, _ = self._data(adata, None)
        random = np.random.default_rng(seed)
        rows = random.integers(len(data), size=n)
        wanted = data.totals[rows] if totals is None else checked_totals(totals, n)
        counts = self._walk(seed).draw(wanted, data.design[rows], random)
        table = pd.DataFrame(counts[:, self.tree.leaves].astype(np.int64), columns=self.tree.leaf_names)
        return table[self.genes]

    @abstractmethod
    def _walk(self, seed: int) -> LocalWalk | GlobalWalk:
        """The walk with the parameters of the model, whose draws begin at a seed."""

    def _inner(self, node: str | None) -> int:
        """Position of an inner node."""
        inner = [self.tree.names[v] for v in self.tree.inner]
        name = inner[0] if node is None else node
        if name not in inner:
            msg = f"node={node!r} is no inner node of the tree. There are: {inner}."
            raise ValueError(msg)
        return self.tree.position(name)

    def _tree_counts(self, data: Any, streams: NDArray[np.intp] | None = None) -> TreeCounts:
        """Counts of all nodes."""
        counts = data.counts[: data.n_cells]
        observed = None if data.entries is None else data.entries.observed
        return TreeCounts.of(
            self.tree,
            counts[:, self._leaves],
            np.asarray(data.design, dtype=np.float64),
            None if observed is None else observed[:, self._leaves],
            streams,
        )

    def _data(self, adata: AnnData | None, indices: Any) -> tuple[TreeCounts, pd.Index]:
        """Counts of all nodes of some samples, and names of these."""
        self._require_trained()
        own = self._data_or_own(adata)
        positions = cell_positions(indices, own.n_obs)
        cells = self._read(own, positions)
        return self._tree_counts(cells.data, positions), cells.names

    def _evaluation(self, adata: Data, indices: Any, n_samples: int, seed: int) -> Evaluated:
        """The log-likelihood or its bounds, and what each node has of it."""
        data, names = self._data(adata, indices)
        walk, nodes = self._walk(seed), self.get_node_log_likelihoods(adata, indices, seed=seed)
        values = pd.Series(walk.elbo(data), names)
        cells = pd.DataFrame({"elbo": values, **{f"elbo of {name}": nodes[name] for name in nodes}})
        found = super()._evaluation(adata, indices, n_samples, seed)
        return found.plus({"elbo": values.mean()}, cells, notes={"elbo": "nats per cell, given the totals of cells"})

    def _annotation(self, adata: Data, diagnostics: bool) -> Annotation:
        if as_bool("diagnostics", diagnostics):
            msg = "TreeWalk has no diagnostics of posteriors: sums over orders are exact, and global walks have importance-weighted bounds. Leave diagnostics out."
            raise ValueError(msg)
        data, _ = self._data(adata, None)
        walk = self._walk(resolve_seed(None))
        values, shares = walk.elbo(data), walk.mean_shares(data)
        clr = centred_log_ratios(self.tree, shares).astype(np.float32)
        nodes = {"mean_counts": data.counts.mean(0), "proportions": np.nanmean(proportions(self.tree, shares), axis=0)}
        obsm = {"proportions": clr}
        if isinstance(walk, GlobalWalk):
            ranks = walk.ranks(data)
            obsm["visit_ranks"] = ranks.astype(np.float32)
            nodes["visit_ranks"] = np.full(len(self.tree), np.nan)
            nodes["visit_ranks"][self.tree.inner] = ranks.mean(0)
        return Annotation(
            obs={"elbo": values},
            obsm=obsm,
            uns={
                "elbo": float(values.mean()),
                "covariates": self.covariates,
                "tree": self.tree.to_state(),
                "nodes": nodes,
            },
        )


def checked_totals(totals: ArrayLike, n: int) -> NDArray[np.int64]:
    """Total counts of n samples."""
    given = np.asarray(totals)
    if given.dtype.kind not in "iuf" or given.shape not in ((), (n,)) or not (np.isfinite(given) & (given >= 0)).all():
        msg = f"totals must be one whole number of at least 0, or {n:,} of them."
        raise ValueError(msg)
    if (given != np.floor(given)).any():
        msg = f"totals must be whole numbers, and {given[given != np.floor(given)].flat[0]} is none."
        raise ValueError(msg)
    return np.broadcast_to(given.astype(np.int64), (n,))
