"""What is registered of an AnnData: fields that summarise and read it, and never write to it.

scvi-tools' own fields copy codes into ``obs`` and check 20 random values of the counts. These read the user's columns
whenever a model needs them, so a new AnnData needs no preparation and keeps its columns as they are; whatever is wrong
with it is said in the user's words. Their state is plain text and numbers, which is saved as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS

from scpln.utils import warn

from ._field import DESIGN_KEY, OFFSET_KEY, Field, State, States
from ._rows import as_rows, gene_columns, get_matrix, location, other_counts, rounded, select_genes, take_cells
from ._validation import remember
from .categories import match
from .counts import Checksums, CountTotals, check_counts, check_real, warn_if_rare, warn_if_rounded
from .design import (
    Design,
    check_categories,
    get_categories,
    get_codes,
    get_coding,
    get_numbers,
    new_categories,
)
from .entries import observed_rows, read_mask

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from .categories import Coding

#: How many times larger or smaller than their geometric mean size factors may be: e⁴⁶.
FURTHEST_FACTOR = 1e20

#: What cells without a label are often called, in lower case.
_NAMES_OF_UNLABELLED = {
    "unknown",
    "unlabeled",
    "unlabelled",
    "unassigned",
    "unannotated",
    "undefined",
    "nan",
    "na",
    "n/a",
    "none",
    "",
}


class CountsField(Field):
    """Counts of the model's genes, matched by name, and rounded if that is asked for; or real values (`is_count_data=False`).

    Of entries that were not observed (`mask_key`) they are zeros, whatever stands there.
    """

    def __init__(
        self, layer: str | None, is_count_data: bool = True, round_counts: bool = False, mask_key: str | None = None
    ) -> None:
        super().__init__(REGISTRY_KEYS.X_KEY, "X" if layer is None else "layers", layer)
        self.layer, self.is_count_data, self.round_counts = layer, is_count_data, round_counts
        self.mask_key = mask_key

    def learn(self, adata: AnnData) -> State:
        """Genes, after checking all values."""
        if not adata.var_names.is_unique:
            msg = "adata.var_names are not unique, and genes are matched by name. Run `adata.var_names_make_unique()`."
            raise ValueError(msg)
        genes = [str(gene) for gene in adata.var_names]
        totals = self.check(adata, self._rows(adata, genes), genes)
        if isinstance(totals, CountTotals):
            warn_if_rounded(totals, location(self.layer))
            warn_if_rare(totals, location(self.layer), on_disk=adata.isbacked)
        return {"n_obs": adata.n_obs, "n_vars": len(genes), "column_names": genes}

    def read(self, adata: AnnData, states: States) -> Any:
        """Values (n × p), on disk if they are there."""
        rows = self._rows(adata, states[self.registry_key]["column_names"])
        return rounded(rows) if self.round_counts else rows

    def take(
        self, adata: AnnData, states: States, cells: NDArray[np.intp] | None = None
    ) -> tuple[Any, CountTotals | Checksums]:
        """Values of all or some cells, after checking them, and their sums."""
        genes = states[self.registry_key]["column_names"]
        rows = self._rows(adata, genes, cells)
        totals = self.check(adata, rows, genes, cells)
        return rounded(rows) if self.round_counts else rows, totals

    def groups(self, states: States) -> NDArray[np.intp] | None:
        """Which size factor of a cell each gene has: there is one for all."""
        return None

    def check(
        self, adata: AnnData, rows: Any, genes: list[str], cells: NDArray[np.intp] | None = None
    ) -> CountTotals | Checksums:
        """Check all of these rows of `adata`, not rounded yet, and sum them up; an error names the cell and the gene.

        What was checked already in the same call is not looked at again.
        """
        key = (id(adata), self.layer, self.is_count_data, self.round_counts, self.mask_key, hash(tuple(genes)))
        return remember(key, rows, cells, lambda: self._validate(adata, rows, genes, cells))

    def _validate(
        self, adata: AnnData, rows: Any, genes: list[str], cells: NDArray[np.intp] | None
    ) -> CountTotals | Checksums:
        obs_names = adata.obs_names if cells is None else adata.obs_names[cells]
        where = location(self.layer)
        if not self.is_count_data:
            return check_real(rows, where=where, obs_names=obs_names, var_names=genes)
        elsewhere = other_counts(adata, self.layer)
        return check_counts(
            rows,
            where=where,
            obs_names=obs_names,
            var_names=genes,
            elsewhere=elsewhere,
            round_counts=self.round_counts,
        )

    def _rows(self, adata: AnnData, genes: list[str], cells: NDArray[np.intp] | None = None) -> Any:
        rows = as_rows(get_matrix(adata, self.layer), location(self.layer))
        rows = take_cells(select_genes(rows, gene_columns(adata.var_names, genes)), cells)
        return rows if self.mask_key is None else observed_rows(rows, read_mask(adata, self.mask_key, genes, cells))

    def transfer_field(self, state_registry: State, adata_target: AnnData, **kwargs: Any) -> State:
        """The same genes, after checking all values of the other data."""
        genes = state_registry["column_names"]
        self.check(adata_target, self._rows(adata_target, genes), genes)
        return {**state_registry, "n_obs": adata_target.n_obs}

    def get_summary_stats(self, state_registry: State) -> dict[str, int]:
        """Numbers of cells and genes."""
        return {"n_cells": state_registry["n_obs"], "n_vars": state_registry["n_vars"]}


class OffsetField(Field):
    """Log size factors o_i, centred on the training cells.

    Of the column `key`, or of each cell's total over the model's genes. A cell without counts gets the offset of a
    cell with one count: the logarithm of 0 has no use, and so small a cell says nothing about its latent state. Without
    `key`, they are 0 where there is no total that would be a size, as of real values, or where entries have offsets of their
    own (`by_total`).
    """

    def __init__(self, counts: CountsField, key: str | None, by_total: bool = True) -> None:
        super().__init__(OFFSET_KEY, "obs" if key is not None else counts.attr_name, key or counts.attr_key)
        self.counts, self.key, self.by_total = counts, key, by_total

    def learn(self, adata: AnnData) -> State:
        """The centre: the mean of the log size factors."""
        genes = [str(gene) for gene in adata.var_names]
        totals = self._totals(adata, {REGISTRY_KEYS.X_KEY: {"column_names": genes}})
        logs = self._log(adata.obs, totals)
        center = float(logs.mean())
        self._centred(adata.obs, logs, center)
        return {"key": self.key, "center": center}

    def read(self, adata: AnnData, states: States) -> NDArray[np.float64]:
        """Offsets o (n × 1)."""
        return self.take(adata, states, self._totals(adata, states))[:, None]

    def take(
        self,
        adata: AnnData,
        states: States,
        totals: CountTotals | Checksums | None,
        cells: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """Offsets o (n,) of all or some cells, whose total counts are known, where they are needed."""
        obs = adata.obs if cells is None else adata.obs.iloc[cells]
        return self._centred(obs, self._log(obs, totals), states[self.registry_key]["center"])

    def transfer_field(self, state_registry: State, adata_target: AnnData, **kwargs: Any) -> State:
        """The same centre; the counts are checked by their own field."""
        if self.key is not None:
            self._centred(adata_target.obs, self._log(adata_target.obs, None), state_registry["center"])
        return dict(state_registry)

    def _totals(self, adata: AnnData, states: States) -> CountTotals | Checksums | None:
        if self.key is not None or not self.by_total:
            return None
        genes = states[REGISTRY_KEYS.X_KEY]["column_names"]
        return self.counts.check(adata, self.counts._rows(adata, genes), genes)

    def _log(self, obs: pd.DataFrame, totals: CountTotals | Checksums | None) -> NDArray[np.float64]:
        if self.key is None and not self.by_total:
            return np.zeros(len(obs))
        if self.key is None:
            assert isinstance(totals, CountTotals)
            return np.log(np.maximum(totals.cells, 1))
        factors = get_numbers(obs, self.key, "size_factor_key")
        bad = np.flatnonzero(factors <= 0)
        if len(bad):
            msg = (
                f"adata.obs[{self.key!r}] (size_factor_key) is 0 or negative for {len(bad):,} of {len(factors):,} "
                f"cells, first {factors[bad[0]]:.6g} for {obs.index[bad[0]]!r}. Size factors are on the natural scale, "
                "such as total counts over all genes: if these are logarithms, pass np.exp of them; remove cells "
                "that have no counts."
            )
            raise ValueError(msg)
        return np.log(factors)

    def _centred(self, obs: pd.DataFrame, logs: NDArray[np.float64], center: float) -> NDArray[np.float64]:
        """Log size factors around their centre; an error for one from which no rate can be computed."""
        offsets = logs - center
        wrong = np.flatnonzero(np.abs(offsets) > np.log(FURTHEST_FACTOR))
        if len(wrong):
            msg = (
                f"adata.obs[{self.key!r}] (size_factor_key) is {np.exp(logs[wrong[0]]):.6g} for {obs.index[wrong[0]]!r}, and for "
                f"{len(wrong):,} of {len(obs):,} cells it is not within a factor of {FURTHEST_FACTOR:.0e} of the geometric mean "
                f"of the training cells, {np.exp(center):.6g}. Put the right size factors there, or leave these cells out."
            )
            raise ValueError(msg)
        return offsets


class DesignField(Field):
    """Design matrix X (n × d) of batch and covariates."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(DESIGN_KEY, "obs", None)
        self.keys = keys

    def learn(self, adata: AnnData) -> State:
        """Columns of the design, with the categories of each key."""
        return Design.learn(adata.obs, **self.keys).to_state()

    def read(self, adata: AnnData, states: States) -> NDArray[np.float64]:
        """X (n × d)."""
        return Design.from_state(states[self.registry_key]).matrix(adata.obs)

    def extend(self, state: State, adata: Any) -> State:
        """Columns of the design, with those of new categories."""
        return Design.from_state(state).extended(adata.obs).to_state()

    def get_summary_stats(self, state_registry: State) -> dict[str, int]:
        """Number of columns."""
        return {"n_covariates": len(state_registry["names"])}


class CategoryField(Field):
    """Code (n × 1) of each cell's category, which must be known; one category for all where there is no key."""

    def __init__(self, registry_key: str, key: str | None, argument: str) -> None:
        super().__init__(registry_key, "obs", key)
        self.key, self.argument = key, argument

    def learn(self, adata: AnnData) -> State:
        """Categories in their order; named as scvi-tools names them."""
        if self.key is None:
            return {"categorical_mapping": ["0"], "original_key": None}
        return self._state(get_categories(adata.obs, self.key, self.argument))

    def read(self, adata: AnnData, states: States) -> NDArray[np.int64]:
        """Codes (n × 1)."""
        if self.key is None:
            return np.zeros((adata.n_obs, 1), dtype=np.int64)
        return self._codes(adata, states[self.registry_key]["categorical_mapping"])[:, None]

    def extend(self, state: State, adata: Any) -> State:
        """Categories, followed by new ones."""
        known = state["categorical_mapping"]
        if self.key is None:
            return dict(state)
        return {**state, "categorical_mapping": [*known, *new_categories(adata.obs, self.key, self.argument, known)]}

    def get_summary_stats(self, state_registry: State) -> dict[str, int]:
        """Number of categories."""
        return {f"n_{self.registry_key}": len(state_registry["categorical_mapping"])}

    def _state(self, categories: list[str], **more: Any) -> State:
        return {"categorical_mapping": categories, "original_key": self.key, **more}

    def _codes(self, adata: AnnData, known: list[str]) -> NDArray[np.int64]:
        assert self.key is not None
        return get_codes(adata.obs, self.key, self.argument, known)


class LabelsField(CategoryField):
    """Code (n × 1) of each cell's label: −1 where it is missing, unseen, or the category of unlabelled cells."""

    def __init__(self, key: str | None, unlabeled_category: str | None = None) -> None:
        super().__init__(REGISTRY_KEYS.LABELS_KEY, key, "labels_key")
        self.unlabeled_category = unlabeled_category
        if key is None and unlabeled_category is not None:
            msg = (
                f"unlabeled_category={unlabeled_category!r} is a category of labels_key, which is not given. Pass both."
            )
            raise ValueError(msg)

    def learn(self, adata: AnnData) -> State:
        """Labels in their order, and the type of their values."""
        if self.key is None:
            return super().learn(adata)
        everything = get_coding(adata.obs, self.key, self.argument)
        check_categories(everything, self.key, self.argument)
        labels = everything.without(self.unlabeled_category)
        self._warn_of_unlabelled(everything, labels)
        return self._state(labels.categories, dtype=labels.dtype)

    def extend(self, state: State, adata: Any) -> State:
        """Labels stay those that are known."""
        return dict(state)

    def warn_of_unknown(self, adata: AnnData, states: States) -> None:
        """Say which labels of other data the model does not know, and so takes as missing."""
        if self.key is None or self.key not in adata.obs:
            return
        known = states[self.registry_key]["categorical_mapping"]
        labels = get_coding(adata.obs, self.key, self.argument).without(self.unlabeled_category).categories
        unknown = [label for label, code in zip(labels, match(labels, known), strict=True) if code < 0]
        if unknown:
            warn(
                f"adata.obs[{self.key!r}] (labels_key) has labels that the model was not trained on: {unknown[:20]}. It knows "
                f"{known[:20]}; cells with other labels are taken as cells without one."
            )

    def _codes(self, adata: AnnData, known: list[str]) -> NDArray[np.int64]:
        if self.key is None or self.key not in adata.obs:
            return np.full(adata.n_obs, -1, dtype=np.int64)
        return get_coding(adata.obs, self.key, self.argument).without(self.unlabeled_category).codes_among(known)

    def _warn_of_unlabelled(self, everything: Coding, labels: Coding) -> None:
        """Say if the name of unlabelled cells is in vain, or if a label looks like one."""
        if self.unlabeled_category is not None:
            if len(labels.categories) == len(everything.categories):
                warn(
                    f"adata.obs[{self.key!r}] (labels_key) has no category {self.unlabeled_category!r} (unlabeled_category): all cells but those with "
                    f"a missing value are labelled. It has {everything.categories[:20]}."
                )
            return
        for category, size in zip(labels.categories, labels.sizes, strict=True):
            if category.strip().lower() in _NAMES_OF_UNLABELLED:
                warn(
                    f"adata.obs[{self.key!r}] (labels_key) has a category {category!r}, which is a label of its own like every other, that of {size:,} "
                    f"cells. If these are unlabelled, say so: setup_anndata(..., unlabeled_category={category!r})."
                )
