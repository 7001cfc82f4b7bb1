"""Which groups of cells are tested against which, all at once or within each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.data import Coding, Comparison, check_categories, get_column
from scpln.inference.comparison import Samples
from scpln.utils import positive_integer, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

#: Comparisons that a warning names.
_SHOWN = 8


@dataclass(frozen=True)
class Pair:
    """Two sides of a comparison: their names, the cells of both, and which of these are on the first.

    Parameters
    ----------
    group, reference, within
        Names of the sides, and of the cluster that the cells are in; None for all clusters.
    cells
        Positions of the cells (n,).
    side
        Whether each is on the first side (n,).
    samples
        Code of each cell's sample (n,), −1 for none; None where cells are compared.
    """

    group: str
    reference: str
    within: str | None
    cells: NDArray[np.intp]
    side: NDArray[np.bool_]
    samples: NDArray[np.int64] | None

    @property
    def name(self) -> str:
        """As messages have it."""
        return f"{self.group!r} and {self.reference!r}" + ("" if self.within is None else f" within {self.within!r}")

    def units(self, min_cells: int) -> Samples | None:
        """Samples to sum cells over; None where cells are compared."""
        return None if self.samples is None else Samples.of(self.samples, self.side, min_cells)

    def too_few(self, min_cells: int) -> str | None:
        """Why this cannot be tested, if there are too few cells or samples on a side."""
        units = self.units(min_cells)
        least, what = (min_cells, "cells") if units is None else (2, "samples")
        side = self.side if units is None else units.side
        sizes = int(side.sum()), int((~side).sum())
        if min(sizes) >= least:
            return None
        of = "" if units is None else f" of {min_cells:,} cells or more (min_cells)"
        return f"{self.name}: {sizes[0]:,} and {sizes[1]:,} {what}{of}, at least {least:,} on each side"


@dataclass(frozen=True)
class Plan:
    """The comparisons of a column of groups.

    Parameters
    ----------
    groupby, group1, group2
        Column, groups to compare, and those to compare with, as `Comparison.of` takes them.
    within
        Column of clusters; each is a set of comparisons of its own.
    sample_key
        Column of samples.
    min_cells
        Least number of cells of a side, or of a sample on it.
    """

    groupby: str
    group1: Any
    group2: Any
    within: str | None
    sample_key: str | None
    min_cells: int

    def __post_init__(self) -> None:
        positive_integer("min_cells", self.min_cells)
        keys = {"groupby": self.groupby, "within": self.within, "sample_key": self.sample_key}
        given = [key for key in keys.values() if key is not None]
        if len(set(given)) < len(given):
            twice = next(key for key in given if given.count(key) > 1)
            names = [name for name, key in keys.items() if key == twice]
            msg = f"{twice!r} is {' and '.join(names)} at once. These are columns of different things: name others."
            raise ValueError(msg)

    def pairs(self, obs: pd.DataFrame) -> tuple[list[Pair], Comparison]:
        """Comparisons that have enough cells or samples; a warning names the others.

        Raises
        ------
        ValueError
            If a column or group is not there, or nothing is left to compare, or a named group has too few.
        """
        comparison = Comparison.of(get_column(obs, self.groupby, "groupby"), self.group1, self.group2, 1)
        found = list(self._all(obs, comparison))
        reasons = {number: reason for number, pair in enumerate(found) if (reason := pair.too_few(self.min_cells))}
        if reasons and (len(reasons) == len(found) or (self.group1 is not None and self.within is None)):
            msg = f"Too few to compare {next(iter(reasons.values()))}. {self._remedy()}"
            raise ValueError(msg)
        if reasons:
            shown = "; ".join(list(reasons.values())[:_SHOWN]) + ("; …" if len(reasons) > _SHOWN else "")
            warn(
                f"{len(reasons):,} of {len(found):,} comparisons of adata.obs[{self.groupby!r}] are left out, for which there is "
                f"too little: {shown}. {self._remedy()}"
            )
        return [pair for number, pair in enumerate(found) if number not in reasons], comparison

    def _remedy(self) -> str:
        if self.sample_key is None:
            return "Join small groups with others, or pass a smaller min_cells."
        return (
            "What samples say of a difference is how they vary on each side, and one sample does not say it: compare what more "
            "samples have, or leave sample_key out, for a statement on these samples alone."
        )

    def _all(self, obs: pd.DataFrame, comparison: Comparison) -> Iterator[Pair]:
        """Every comparison that has cells on either side."""
        codes, samples = comparison.coding.codes, _codes(obs, self.sample_key, "sample_key")
        for name, stratum in self._strata(obs):
            for group in comparison.first:
                first = stratum & (codes == group)
                second = stratum & (np.isin(codes, comparison.second) if comparison.second else codes != group)
                cells = np.flatnonzero(first | second)
                yield Pair(
                    comparison.coding.categories[group],
                    comparison.group2 or "rest",
                    name,
                    cells,
                    first[cells],
                    None if samples is None else samples[cells],
                )

    def _strata(self, obs: pd.DataFrame) -> Sequence[tuple[str | None, NDArray[np.bool_]]]:
        if self.within is None:
            return [(None, np.ones(len(obs), bool))]
        coding = Coding.of(get_column(obs, self.within, "within"))
        check_categories(coding, self.within, "within")
        return [(name, coding.codes == number) for number, name in enumerate(coding.categories)]


def _codes(obs: pd.DataFrame, key: str | None, argument: str) -> NDArray[np.int64] | None:
    """Codes of a column, −1 where it is missing; None without one."""
    return None if key is None else Coding.of(get_column(obs, key, argument)).codes
