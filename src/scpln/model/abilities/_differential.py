"""Differential expression: scvi-tools' comparison of groups of cells, of rates drawn from scpln's posteriors."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.model.base import RNASeqMixin

from scpln.data import (
    DESIGN_KEY,
    Comparison,
    Design,
    as_list,
    cell_positions,
    cells_where,
    get_column,
    setup_args,
    states,
    take_cells,
)
from scpln.module import ABSENT
from scpln.utils import as_bool, as_number, in_range, one_of, resolve_seed

from ._predictive import Predictive
from ._raw_values import RawValues

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from scpln.data import Data

Mode = Literal["change", "vanilla"]

#: Column in which scvi-tools keeps what it multiplies each cell's counts by for normalised means.
_SCALING = "_scvi_raw_norm_scaling"
#: Column of the groups, as text.
_GROUPS = "_scpln_groups"
#: Total that it scales counts to.
_TOTAL = 1e4


class Differential(Predictive):
    """Models whose rates can be compared between groups of cells."""

    def differential_expression(
        self,
        adata: AnnData | MuData | None = None,
        groupby: str | None = None,
        group1: Any = None,
        group2: Any = None,
        idx1: Sequence[int] | ArrayLike | str | None = None,
        idx2: Sequence[int] | ArrayLike | str | None = None,
        mode: Mode = "change",
        delta: float | None = 0.25,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: str | float | Sequence[str | float] | None = None,
        batchid2: str | float | Sequence[str | float] | None = None,
        fdr_target: float = 0.05,
        silent: bool = False,
        *,
        filter_outlier_cells: bool = False,
        min_cells: int = 3,
        seed: int | None = None,
        **kwargs: Any,
    ) -> pd.DataFrame:
        r"""Compare the expression of groups of cells, gene by gene, as scvi-tools does.

        Draw a cell a of one group and a cell b of the other at random, their latent states from their posteriors, and
        compare their rates without size factors: the log fold change of gene j is

        .. math:: r_j = \log_2 (\lambda_{aj} + \epsilon) - \log_2 (\lambda_{bj} + \epsilon), \quad
            \lambda_{ij} = e^{\eta_{ij} - o_i}

        with a pseudocount ε that scvi-tools takes from genes that are hardly expressed. A gene is called differentially
        expressed from the probability of :math:`r_j \ge \delta`, or of :math:`r_j < -\delta` if that is larger, over 5,000
        such pairs. It is about pairs of cells, not about the groups' means, and so takes the variation within groups
        into account, which hides most changes of means; `test_groups` tests these, with p values, and between donors. The
        model's parameters are taken as known: with few cells the probabilities are too sure.

        Rates are those of a cell of average size factor (see `get_normalized_expression`) and need not add up to 1: a
        change of one gene changes no other. Of real-valued data, r is the difference of the expected values, in the
        data's unit, and columns that start with ``lfc_`` are of these differences. Counts in categories (``k_max``) are
        compared by their means.

        Parameters
        ----------
        adata, batch_size
            As in `get_posterior`.
        groupby
            Column of ``adata.obs`` with the groups, of any type. Cells with a missing value are in no group, but in the rest.
        group1, group2
            Group, or several to compare one after another, by default all others, up to 100; and the group, or several taken
            together, to compare with, by default all other cells.
        idx1, idx2
            Cells to compare, in place of these: positions, a mask, or a query of ``adata.obs``.
        mode
            ``"change"``, whether the fold change is larger than `delta`; or ``"vanilla"``, whether one rate is larger.
        delta
            Fold change (log2) from which on a gene is differentially expressed. None estimates it, by scvi-tools' rule.
        all_stats
            Whether to add means and shares of non-zeros of the raw values, which are read into memory. Of modalities,
            they are over the cells that have it, and counts are normalised within it; with a mask, over observed entries.
        batch_correction
            Whether all cells are moved to the same batches before they are compared: `batchid1` and `batchid2`, by default
            all, one after another. Otherwise each cell is in its own.
        batchid1, batchid2
            Batches that the first and second group are moved to.
        fdr_target
            Expected share of false discoveries among the genes that are called.
        silent, filter_outlier_cells
            Whether to hide the progress bar, and whether to leave out cells far from the rest of their group in latent space.
        min_cells
            Least number of cells of each group of `groupby`, and of what it is compared with. By default groups that have
            fewer are left out, with a warning; named in `group1`, they are refused.
        seed
            Seed of cells and draws; by default ``scvi.settings.seed``, or 0.
        **kwargs
            Further arguments of scvi-tools' ``DifferentialComputation.get_bayes_factors``, such as
            ``n_samples_overall``, ``test_mode``, ``pseudocounts``, ``change_fn`` and ``cred_interval_lvls``.
            ``pseudocounts`` is added to rates before their ratio is taken: scvi-tools' own choice follows from genes that
            no cell of a group expresses, and is 0 where there are none, so that ratios of genes that one group hardly
            expresses are large and uncertain; ``pseudocounts=0.01``, of a rate per average cell, holds them back.

        Returns
        -------
        scvi-tools' table with a row for each gene (and group), the most certain first. Of ``mode="change"``:
        ``proba_de``, the probability of a change, ``bayes_factor``, its logit; ``scale1`` and ``scale2``, mean rates;
        ``lfc_mean``, ``lfc_median``, ``lfc_std``, ``lfc_min`` and ``lfc_max``; ``is_de_fdr_{fdr_target}``; and
        ``comparison``. Nothing is written to `adata`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such column, group or batch, a group is too small, or there are more than 100 and none is named.

        References
        ----------
        P. Boyeau, R. Lopez, J. Regier, A. Gayoso, M. Jordan and N. Yosef (2019), Deep generative models for detecting
        differential expression in single cells, MLCB.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=30, n_latent=2, n_batches=2)
        >>> scpln.model.setup_anndata(adata, batch_key="batch")
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> table = model.differential_expression(groupby="batch", group1="0", silent=True)
        >>> table[["lfc_median", "proba_de", "comparison"]].shape
        (30, 3)
        """
        self._require_trained()
        one_of("mode", mode, get_args(Mode))
        delta = None if delta is None else as_number("delta", delta)
        fdr_target = in_range("fdr_target", fdr_target, 0, 1)
        flags = {"all_stats": all_stats, "silent": silent, "filter_outlier_cells": filter_outlier_cells}
        flags = {name: as_bool(name, value) for name, value in flags.items()}
        batch_correction = as_bool("batch_correction", batch_correction)
        adata = self._data_or_own(adata)
        batchid1, batchid2 = self._batches(batch_correction, batchid1=batchid1, batchid2=batchid2)
        comparison = _comparison(adata.obs, groupby, group1, group2, min_cells) if idx1 is None else None
        if not self.is_count_data:
            kwargs = _of_differences(kwargs)
        groups = _Groups(self, adata, batch_size, np.random.default_rng(resolve_seed(seed)))
        if comparison is not None:
            groupby, group1, group2 = groups.keep(comparison), comparison.group1, comparison.group2
        with groups.seeded_numpy():
            table = RNASeqMixin.differential_expression(
                groups,
                groupby=groupby,
                group1=group1,
                group2=group2,
                idx1=_cells("idx1", idx1, adata.obs),
                idx2=_cells("idx2", idx2, adata.obs),
                mode=mode,
                delta=delta,
                batch_correction=batch_correction,
                batchid1=batchid1,
                batchid2=batchid2,
                fdr_target=fdr_target,
                **flags,
                **kwargs,
            )
        if comparison is not None:
            table = table.assign(**{name: comparison.restored(table[name]) for name in ("group1", "group2")})
        # Totals, which the raw values are normalised by, mean nothing where values may be negative.
        return table if self.is_count_data else table.drop(columns=table.filter(like="raw_normalized").columns)

    def _batches(
        self, batch_correction: bool, **ids: str | float | Sequence[str | float] | None
    ) -> list[list[str] | None]:
        """The batches to move cells to, as lists."""
        if batch_correction and setup_args(self.registry)["batch_key"] is None:
            msg = "batch_correction=True needs batches, and setup_anndata was called without batch_key."
            raise ValueError(msg)
        for name, batches in ids.items():
            if batches is not None and not batch_correction:
                msg = f"{name}={batches!r} says where cells are moved to, which batch_correction=True does. Pass both."
                raise ValueError(msg)
        design, key = Design.from_state(states(self.registry)[DESIGN_KEY]), setup_args(self.registry)["batch_key"]
        return [
            None if batches is None else [design.factors[key][design.code(key, batch)] for batch in as_list(batches)]
            for batches in ids.values()
        ]


@dataclass
class _Groups:
    """What scvi-tools' comparison asks of a model and its data, with obs and uns of its own to write to."""

    model: Differential
    data: Data
    batch_size: int | None
    rng: np.random.Generator
    adata: AnnData = field(init=False)

    def __post_init__(self) -> None:
        self.adata = AnnData(obs=self.data.obs.copy(), var=pd.DataFrame(index=self.model.genes))

    def keep(self, comparison: Comparison) -> str:
        """Add the column of groups, and return its name."""
        self.adata.obs[_GROUPS] = comparison.column.to_numpy()
        return _GROUPS

    def _validate_anndata(self, adata: AnnData | None) -> AnnData:
        """The data, which scpln checks when it reads them."""
        return self.adata

    def get_anndata_manager(self, adata: AnnData, required: bool) -> _Groups:
        """The registration: this itself."""
        return self

    def get_state_registry(self, registry_key: str) -> SimpleNamespace:
        """What was learned of the batches."""
        return SimpleNamespace(**states(self.model.registry)[registry_key])

    def get_from_registry(self, registry_key: str) -> Any:
        """The raw values, in memory."""
        assert registry_key == REGISTRY_KEYS.X_KEY
        return self._values

    @cached_property
    def _values(self) -> Any:
        """The same, read once for all groups."""
        data = self.model._read(self.data).data
        counts = data.counts
        if not isinstance(counts, np.ndarray):
            counts = sp.csr_matrix(counts if sp.issparse(counts) else take_cells(counts, np.arange(self.data.n_obs)))
        observed = None if data.entries is None else data.entries.observed
        if data.groups is not None or observed is not None:
            self.adata.obs[_SCALING] = _TOTAL
            groups = np.zeros(data.n_genes, np.intp) if data.groups is None else data.groups
            return RawValues(sp.csr_matrix(counts), data.log_sizes != ABSENT, groups, observed)
        # scvi-tools divides by totals, and cells without counts would make every mean NaN.
        totals = np.asarray(counts.sum(axis=1)).ravel()
        self.adata.obs[_SCALING] = _TOTAL / np.where(totals == 0, 1, totals)
        return counts

    def get_latent_representation(self, adata: AnnData, indices: NDArray[np.intp]) -> NDArray[np.float64]:
        """Posterior means, to find outliers by."""
        return self.model.get_posterior(self.data, indices, batch_size=self.batch_size).mean

    def get_normalized_expression(
        self,
        adata: AnnData,
        *,
        indices: NDArray[np.intp],
        transform_batch: str | None,
        n_samples_overall: int,
        **_defaults: Any,
    ) -> NDArray[np.float32]:
        """Rates (draws × genes) of cells of a group taken at random, each nearly equally often, in random order.

        scvi-tools draws from every cell of a group and then chooses among the draws with replacement. Choosing cells
        first gives the same distribution, and of a large group needs the rates of a few cells only.
        """
        if len(indices) == 0:
            msg = "One of the groups has no cells (the rest has none where idx1 or group1 has all). Choose groups that both have some."
            raise ValueError(msg)
        chosen = self.rng.permutation(indices)[:n_samples_overall]
        with torch.inference_mode(False):  # which scvi-tools sets, and in which posteriors cannot be inferred
            rates = self.model.get_normalized_expression(
                self.data,
                chosen,
                transform_batch,
                n_samples=-(-n_samples_overall // len(chosen)),
                return_mean=False,
                batch_size=self.batch_size,
                seed=int(self.rng.integers(2**31)),
            )
        assert isinstance(rates, np.ndarray)
        n_drawn = rates.shape[0] * rates.shape[1]
        return rates.reshape(n_drawn, -1)[self.rng.permutation(n_drawn)[:n_samples_overall]]

    @contextmanager
    def seeded_numpy(self) -> Iterator[None]:
        """Seed NumPy's global random numbers, which scvi-tools draws from, and give them back as they were."""
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(int(self.rng.integers(2**32)))  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def _comparison(obs: pd.DataFrame, groupby: str | None, group1: Any, group2: Any, min_cells: int) -> Comparison:
    """The groups to compare; an error for columns and groups that are not there."""
    if groupby is None:
        msg = "Say what to compare: groupby='a column of adata.obs', or the cells themselves by idx1= and idx2=."
        raise ValueError(msg)
    return Comparison.of(get_column(obs, groupby, "groupby"), group1, group2, min_cells)


def _cells(name: str, idx: Sequence[int] | ArrayLike | str | None, obs: pd.DataFrame) -> NDArray[np.intp] | None:
    """Positions of cells, or of those that a query of obs finds."""
    chosen = cells_where(obs, idx, name) if isinstance(idx, str) else idx
    return cell_positions(chosen, len(obs), name)


def _of_differences(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by which real values are compared: they can be negative, and have no logarithm."""
    if kwargs.get("change_fn") == "log-fold":
        msg = (
            "change_fn='log-fold' takes logarithms, and real-valued data may be negative. Leave it out for differences."
        )
        raise ValueError(msg)
    return {"change_fn": _difference, "pseudocounts": 0.0, **kwargs}


def _difference(first: NDArray, second: NDArray, pseudocounts: float) -> NDArray:
    return first - second
