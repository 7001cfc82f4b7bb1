"""Fields of a MuData, whose modalities share cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scvi import REGISTRY_KEYS

from scpln.core import ABSENT, Entries
from scpln.utils import named

from ._field import OFFSET_KEY, Field
from ._fields import CategoryField, CountsField, DesignField, LabelsField, OffsetField
from ._joint_rows import JointRows
from ._modalities import modality_sizes, modality_slices
from .counts import CountTotals
from .design import as_list, columns_in
from .entries import ENTRIES_KEY, EntriesField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._field import State, States


class JointCountsField(Field):
    """Counts of the modalities, side by side (n × Σp)."""

    def __init__(self, parts: dict[str, CountsField]) -> None:
        super().__init__(REGISTRY_KEYS.X_KEY, "mod", None)
        self.parts = parts

    def learn(self, mdata: MuData) -> State:
        """Genes of each modality, after checking all counts."""
        genes: list[str] = []
        sizes: dict[str, dict[str, int]] = {}
        for name, field in self.parts.items():
            with named(f"mdata[{name!r}]"):
                state = field.learn(mdata.mod[name])
            genes += state["column_names"]
            sizes[name] = {"n_obs": state["n_obs"], "n_vars": state["n_vars"]}
        repeated = pd.Index(genes)[pd.Index(genes).duplicated()].unique()
        if len(repeated):
            msg = (
                f"{len(repeated):,} names of genes or other features are in several of the modalities "
                f"{list(self.parts)}, first {repeated[0]!r}, and they are matched by name. "
                "Run `mdata.var_names_make_unique()`."
            )
            raise ValueError(msg)
        self._check_cells(mdata, [self.positions(mdata, name) for name in self.parts])
        return {"n_obs": mdata.n_obs, "n_vars": len(genes), "column_names": genes, "modalities": sizes}

    def read(self, mdata: MuData, states: States) -> Any:
        """Counts (n × Σp): CSR, or, if a modality is on disk, read from there."""
        return self.take(mdata, states)[0]

    def take(
        self, mdata: MuData, states: States, cells: NDArray[np.intp] | None = None
    ) -> tuple[sp.csr_matrix | JointRows, CountTotals]:
        """Counts of all or some cells, after checking them, and the total of each cell by modality (n, G)."""
        slices = modality_slices(states)
        genes = states[self.registry_key]["column_names"]
        positions = [self.positions(mdata, name, cells) for name in slices]
        self._check_cells(mdata, positions, cells)
        rows = []
        shape = len(positions[0]), len(slices)
        totals = CountTotals(np.zeros(shape), np.zeros(len(genes)), np.zeros(shape, np.uint64))
        for number, (name, own) in enumerate(slices.items()):
            present = positions[number] >= 0
            if not present.any():
                rows.append(sp.csr_matrix((0, own.stop - own.start), dtype=np.int32))
                continue
            adata, chosen = mdata.mod[name], positions[number][present]
            everything = len(chosen) == adata.n_obs and bool((chosen == np.arange(adata.n_obs)).all())
            with named(f"mdata[{name!r}]"):
                part, sums = self.parts[name].take(
                    adata, {self.registry_key: {"column_names": genes[own]}}, None if everything else chosen
                )
            rows.append(part)
            assert isinstance(sums, CountTotals)
            totals.cells[present, number], totals.genes[own] = sums.cells, sums.genes
            totals.checksums[present, number] = sums.checksums
        joint = JointRows(rows, positions)
        return (joint[:] if joint.in_memory else joint), totals

    def groups(self, states: States) -> NDArray[np.intp]:
        """Modality of each gene, whose size factor it has, (Σp,)."""
        sizes = list(modality_sizes(states).values())
        return np.repeat(np.arange(len(sizes)), sizes)

    def positions(self, mdata: MuData, name: str, cells: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
        """Position of all or some cells in a modality, −1 where they lack it."""
        names = mdata.obs_names if cells is None else mdata.obs_names[cells]
        if name not in mdata.mod:
            return np.full(len(names), -1)
        own = mdata.mod[name].obs_names
        for what, index in (("mdata", mdata.obs_names), (f"mdata[{name!r}]", own)):
            if not index.is_unique:
                msg = (
                    f"{what}.obs_names are not unique, first {index[index.duplicated()][0]!r}, and cells are matched by "
                    "name. Run `mdata.obs_names_make_unique()`."
                )
                raise ValueError(msg)
        if not own.isin(mdata.obs_names).all():
            msg = f"mdata[{name!r}] has cells that mdata.obs_names lacks: it was changed. Run `mdata.update()`."
            raise ValueError(msg)
        return own.get_indexer(names)

    def transfer_field(self, state_registry: State, adata_target: MuData, **kwargs: Any) -> State:
        """The same genes, after checking all counts of the other data, which may lack modalities."""
        self.read(adata_target, {self.registry_key: state_registry})
        return {**state_registry, "n_obs": adata_target.n_obs}

    def get_summary_stats(self, state_registry: State) -> dict[str, int]:
        """Numbers of cells and genes."""
        return {"n_cells": state_registry["n_obs"], "n_vars": state_registry["n_vars"]}

    def _check_cells(
        self, mdata: MuData, positions: Sequence[NDArray[np.intp]], cells: NDArray[np.intp] | None = None
    ) -> None:
        """Each cell must have one of the modalities or more."""
        nothing = np.flatnonzero(np.all([own < 0 for own in positions], axis=0))
        if len(nothing):
            names = mdata.obs_names if cells is None else mdata.obs_names[cells]
            msg = (
                f"{len(nothing):,} of {len(names):,} cells have none of the modalities {list(self.parts)}, first "
                f"{names[nothing[0]]!r}. Leave them out, or name a modality that they have; mdata has {list(mdata.mod)}."
            )
            raise ValueError(msg)


class JointOffsetField(Field):
    """Log size factors of the modalities, each centred on the training cells that have it, (n, G)."""

    def __init__(self, counts: JointCountsField, parts: dict[str, OffsetField]) -> None:
        super().__init__(OFFSET_KEY, "mod", None)
        self.counts, self.parts = counts, parts

    def learn(self, mdata: MuData) -> State:
        """The centre of each modality."""
        centers = {}
        for name, field in self.parts.items():
            with named(f"mdata[{name!r}]"):
                centers[name] = field.learn(mdata.mod[name])
        return {"modalities": centers}

    def read(self, mdata: MuData, states: States) -> NDArray[np.float64]:
        """Offsets o (n × G)."""
        return self.take(mdata, states, self.counts.take(mdata, states)[1])

    def take(
        self, mdata: MuData, states: States, totals: CountTotals, cells: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        """Offsets o (n × G) of all or some cells, whose total counts are known; `ABSENT` where they lack a modality."""
        result = np.full(totals.cells.shape, ABSENT)
        for number, (name, field) in enumerate(self.parts.items()):
            positions = self.counts.positions(mdata, name, cells)
            present = positions >= 0
            if present.any():
                own = CountTotals(totals.cells[present, number], np.empty(0), np.empty(0, np.uint64))
                state = {self.registry_key: states[self.registry_key]["modalities"][name]}
                with named(f"mdata[{name!r}]"):
                    result[present, number] = field.take(mdata.mod[name], state, own, positions[present])
        return result

    def transfer_field(self, state_registry: State, adata_target: MuData, **kwargs: Any) -> State:
        """The same centres."""
        for name, field in self.parts.items():
            if name in adata_target.mod:
                with named(f"mdata[{name!r}]"):
                    field.transfer_field(state_registry["modalities"][name], adata_target.mod[name])
        return dict(state_registry)


class JointEntriesField(Field):
    """Offsets of entries of the modalities that have them, and which were observed, (n, Σp)."""

    def __init__(self, counts: JointCountsField, parts: dict[str, EntriesField]) -> None:
        super().__init__(ENTRIES_KEY, "mod", None)
        self.counts, self.parts = counts, parts

    def learn(self, mdata: MuData) -> State:
        """The centres of each modality."""
        learned = {}
        for name, field in self.parts.items():
            with named(f"mdata[{name!r}]"):
                learned[name] = field.learn(mdata.mod[name])
        return {"modalities": learned}

    def read(self, mdata: MuData, states: States) -> NDArray[np.float64]:
        """What is added to log-rates besides log size factors, (n × Σp)."""
        return self.take(mdata, states).added(slice(None))

    def take(self, mdata: MuData, states: States, cells: NDArray[np.intp] | None = None) -> Entries:
        """Offsets of all or some cells, 0 where they lack a modality or it has none, and which entries were observed."""
        slices, genes = modality_slices(states), states[REGISTRY_KEYS.X_KEY]["column_names"]
        shape = mdata.n_obs if cells is None else len(cells), len(genes)
        has_offsets = any(field.offset_key for field in self.parts.values())
        has_mask = any(field.mask_key for field in self.parts.values())
        offsets, observed = np.zeros(shape) if has_offsets else None, np.ones(shape, bool) if has_mask else None
        for name, field in self.parts.items():
            positions, own = self.counts.positions(mdata, name, cells), slices[name]
            present = np.flatnonzero(positions >= 0)
            if not len(present):
                continue
            known = {self.registry_key: states[self.registry_key]["modalities"][name]}
            with named(f"mdata[{name!r}]"):
                names = {REGISTRY_KEYS.X_KEY: {"column_names": genes[own]}}
                part = field.take(mdata.mod[name], {**known, **names}, positions[present])
            if offsets is not None and part.offsets is not None:
                offsets[present, own] = part.offsets
            if observed is not None and part.observed is not None:
                observed[present, own] = part.observed
        return Entries(offsets, observed)

    def transfer_field(self, state_registry: State, adata_target: MuData, **kwargs: Any) -> State:
        """The same centres; values are checked when they are read."""
        for name, field in self.parts.items():
            if name in adata_target.mod:
                with named(f"mdata[{name!r}]"):
                    field.transfer_field(state_registry["modalities"][name], adata_target.mod[name])
        return dict(state_registry)


class JointDesignField(DesignField):
    """Design matrix of columns of ``mdata.obs``."""

    def learn(self, mdata: MuData) -> State:
        """Columns of the design, with the categories of each key."""
        self._check_columns(mdata)
        return super().learn(mdata)

    def read(self, mdata: MuData, states: States) -> NDArray[np.float64]:
        """X (n × d)."""
        self._check_columns(mdata)
        return super().read(mdata, states)

    def _check_columns(self, mdata: MuData) -> None:
        """Say where a column is that ``mdata.obs`` lacks, if a modality has it."""
        for argument, value in self.keys.items():
            keys = columns_in(value) if argument == "design" and value else as_list(value)
            for key in keys:
                having = [name for name, adata in mdata.mod.items() if key in adata.obs]
                if key in mdata.obs or not having:
                    continue
                pulled = [column for name in having if (column := f"{name}:{key}") in mdata.obs]
                name = having[0]
                passed = (
                    f"write `{pulled[0]}`"
                    if argument == "design" and pulled
                    else f"pass {argument}={pulled[0]!r}"
                    if pulled
                    else ""
                )
                remedy = f"{passed}, which it has, or copy it" if pulled else "run `mdata.pull_obs()`, or copy it"
                msg = (
                    f"mdata.obs has no column {key!r} ({argument}), but mdata[{name!r}].obs has: {remedy}, "
                    f"`mdata.obs[{key!r}] = mdata[{name!r}].obs[{key!r}]`."
                )
                raise ValueError(msg)


def make_joint_fields(
    *,
    modalities: Mapping[str, Mapping[str, str | None]],
    design: str | None = None,
    batch_key: str | None = None,
    categorical_covariate_keys: list[str] | None = None,
    continuous_covariate_keys: list[str] | None = None,
    round_counts: bool = False,
) -> dict[str, Field]:
    """Fields of the arguments of `setup_mudata`, by registry key."""
    parts, offsets, entries = {}, {}, {}
    for name, options in modalities.items():
        offset_key, mask_key = options.get("offset_key"), options.get("mask_key")
        parts[name] = CountsField(options["layer"], round_counts=round_counts, mask_key=mask_key)
        offsets[name] = OffsetField(parts[name], options["size_factor_key"], by_total=offset_key is None)
        if offset_key is not None or mask_key is not None:
            entries[name] = EntriesField(offset_key, mask_key, is_count_data=True)
    counts = JointCountsField(parts)
    sizes = JointOffsetField(counts, offsets)
    fields: list[Field] = [
        JointDesignField(
            design=design,
            batch_key=batch_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        ),
        CategoryField(REGISTRY_KEYS.BATCH_KEY, batch_key, "batch_key"),
        LabelsField(None),
        *([JointEntriesField(counts, entries)] if entries else []),
        *((sizes, counts) if all(field.key for field in offsets.values()) else (counts, sizes)),
    ]
    return {field.registry_key: field for field in fields}
