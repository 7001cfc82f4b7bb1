"""Tests of the groups' means from the cells of a registration, with or without a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scpln.data import DESIGN_KEY, Design, setup_args, states, take_cells
from scpln.inference.comparison import compare_counts, compare_values, independent_columns
from scpln.utils import as_bool, as_names, watched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from scpln.core import CountData
    from scpln.data import Cells
    from scpln.inference.comparison import GeneTests

    from ._plan import Pair, Plan

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class GroupTest:
    """How comparisons are made.

    Parameters
    ----------
    plan
        Which.
    registry
        What the data were registered with.
    covariate_keys
        Registered keys that are held; None for all but those of the plan.
    composition
        Whether a shift that most genes have is taken out.
    """

    plan: Plan
    registry: Mapping[str, Any]
    covariate_keys: Any = None
    composition: bool = True

    def __post_init__(self) -> None:
        as_bool("composition", self.composition)

    @property
    def is_count_data(self) -> bool:
        """Whether counts are compared, or else real values."""
        return bool(setup_args(self.registry).get("is_count_data", True))

    def table(self, cells: Cells, obs: pd.DataFrame, latent: NDArray | None = None) -> pd.DataFrame:
        """A row for each comparison and gene, sorted by score; see `GroupTests.test_groups`.

        Parameters
        ----------
        cells
            Counts or values of the cells, with their offsets and designs.
        obs
            Their columns.
        latent
            Latent states (n × q) to hold, too.
        """
        pairs, comparison = self.plan.pairs(obs)
        columns = self._columns(obs)
        names = [states(self.registry)[DESIGN_KEY]["names"][column] for column in columns]
        genes = np.array(states(self.registry)["X"]["column_names"], dtype=object)
        values = _in_memory(cells.data, len(obs), sparse=self.is_count_data)
        tables = []
        for pair in watched(pairs, "Comparisons", len(pairs), lambda _: 1, unit="comparison"):
            held = None if latent is None else latent[pair.cells].astype(float)
            covariates = cells.data.design[:, columns][pair.cells]
            tests, sizes = self._test(pair, values[pair.cells], cells.data.offsets[pair.cells], covariates, names, held)
            tables.append(_table(tests, genes, pair, sizes, self.is_count_data))
        table = pd.concat(tables, ignore_index=True)
        for name in ("group", "reference"):
            table[name] = comparison.restored(table[name])
        return table

    def _columns(self, obs: pd.DataFrame) -> list[int]:
        """Positions of the design's columns that are held."""
        design = Design.from_state(states(self.registry)[DESIGN_KEY])
        known = list(design.arguments)
        if self.covariate_keys is None:
            wanted = [key for key in known if key not in (self.plan.groupby, self.plan.within, self.plan.sample_key)]
        else:
            wanted = as_names("covariate_keys", self.covariate_keys)
        unknown = [key for key in wanted if key not in known]
        if unknown:
            msg = f"covariate_keys names {unknown}, which setup_anndata was not told of. It was told of {known}."
            raise ValueError(msg)
        return design.columns_of(wanted)

    def _test(
        self, pair: Pair, values: Any, offsets: Array, covariates: Array, names: list[str], held: Array | None
    ) -> tuple[GeneTests, tuple[int, int]]:
        """Test of a comparison, of cells or of samples, and the units on its sides."""
        units, side = pair.units(self.plan.min_cells), pair.side
        if units is not None:
            paired, side = units.paired(), units.side
            names = [*(f"sample {number + 2}" for number in range(paired.shape[1])), *names]
            covariates = np.column_stack([paired, units.means(covariates)])
            if self.is_count_data:
                values, offsets = units.sums(values), units.log_sizes(offsets)
            else:
                values, offsets = units.means(values), units.means(offsets[:, None])[:, 0]
        covariates, names = independent_columns(side, covariates, names)
        n_states = 0 if held is None else held.shape[1]
        names += [f"latent state {number + 1}" for number in range(n_states)]
        if len(side) < len(names) + 3:
            what = "cells" if units is None else "samples"
            msg = (
                f"Too few {what} to compare {pair.name}: {len(side):,}, and besides the two means there are "
                f"{len(names):,} columns to hold, {names[:8]}. It takes one more than all of these: leave some out by "
                "covariate_keys=[...], or adjust_for_state."
            )
            raise ValueError(msg)
        if self.is_count_data:
            tests = compare_counts(values, side, offsets, covariates, states=held, composition=self.composition)
        else:
            tests = compare_values(values, side, offsets, covariates)
        return tests, (int(side.sum()), int((~side).sum()))


def _in_memory(data: CountData, n_cells: int, *, sparse: bool) -> Any:
    """All values, whose rows and columns can be chosen."""
    values = data.counts
    if not sp.issparse(values) and not isinstance(values, np.ndarray):
        values = take_cells(values, np.arange(n_cells))
    return sp.csr_matrix(values) if sparse or sp.issparse(values) else np.asarray(values)


def _table(
    tests: GeneTests, genes: NDArray[np.object_], pair: Pair, sizes: tuple[int, int], is_count_data: bool
) -> pd.DataFrame:
    unit = np.log(2) if is_count_data else 1.0
    order = np.argsort(-tests.scores, kind="stable")
    where = {} if pair.within is None else {"within": pair.within}
    columns = {
        "names": genes,
        "scores": tests.scores,
        "logfoldchanges": tests.shrunken / unit,
        "pvals": tests.p_values,
        "pvals_adj": tests.adjusted,
        "s_values": tests.s_values,
        "logfoldchanges_sd": tests.shrunken_sd / unit,
        "logfoldchanges_estimate": tests.effects / unit,
        "logfoldchanges_se": tests.errors / unit,
    }
    table = pd.DataFrame({name: values[order] for name, values in columns.items()})
    named = pd.DataFrame({"group": pair.group, "reference": pair.reference, **where}, index=table.index)
    return pd.concat([named, table], axis=1).assign(n_group=sizes[0], n_reference=sizes[1])
